# gunicorn --workers 8 gunicorn_app:application
from shmcreds import RefreshableSession

session = RefreshableSession(
    assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"}
)


def application(environ, start_response):
    s3 = session.client("s3")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [url.encode()]
