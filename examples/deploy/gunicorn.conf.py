"""gunicorn whose workers share one set of AWS credentials:

    shmcreds exec --role-arn ARN -- gunicorn -c gunicorn.conf.py app:app

HUP reloads as ever. The upgrade by USR2 does not go together with `exec`, which ends when the process that it has
started does, and ends what that has left: for it, keep the session in a unit of its own (`shmcreds@.service`).
"""

import os

bind = os.environ.get("BIND", "127.0.0.1:8000")
workers = int(os.environ.get("WEB_CONCURRENCY", "8"))

# Each worker makes its own clients, after the fork: a client made before would share its connections.
preload_app = False


def on_starting(server):
    """Says at once what every worker would find out by itself, at its first request."""
    if "AWS_CONTAINER_CREDENTIALS_FULL_URI" not in os.environ:
        raise SystemExit("no credentials endpoint: start gunicorn by `shmcreds exec`, or beside `shmcreds serve`")
