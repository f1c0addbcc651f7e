# celery --app celery_tasks worker --concurrency 8
import celery

from shmcreds import RefreshableSession

app = celery.Celery("tasks", broker="memory://")
session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
)


@app.task
def buckets():
    return [bucket["Name"] for bucket in session.client("s3").list_buckets()["Buckets"]]
