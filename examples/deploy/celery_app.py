"""Celery workers (prefork) that share one set of AWS credentials:

    shmcreds exec --role-arn ARN -- celery -A celery_app worker --concurrency 8

With `worker_max_tasks_per_child` Celery replaces a process after so many tasks. Each new process asks the endpoint,
not STS. Do not use `celery multi` or `--detach` under `exec`, which ends when the process that it started ends: keep
the session in a unit of its own (`shmcreds@.service`) for them.
"""

import os

import boto3
from celery import Celery
from celery.signals import worker_process_init

app = Celery("app", broker=os.environ["BROKER_URL"], backend=os.environ.get("RESULT_BACKEND"))
app.conf.worker_max_tasks_per_child = 100
s3 = None


@worker_process_init.connect
def connect(**_):
    """Each process makes its own client, after the fork: a client made before would share its connections."""
    global s3
    s3 = boto3.client("s3")


@app.task
def buckets():
    """Stands for your own task."""
    return [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
