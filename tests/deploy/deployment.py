"""What the trials of examples/deploy share."""

import os
import pathlib
import subprocess
import sys

from moto_aws import LIMIT, ROLE, Moto

VENV, SHMCREDS = sys.argv[1:3]
PYTHON = f"{VENV}/bin/python"
ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/deploy"
CLIENTS = ROOT / "tests/interop/clients"
EXEC = [SHMCREDS, "exec", "--role-arn", ROLE, "--"]
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "any"}
# A program that knows nothing of shmcreds: uses its credentials, and says which they are.
CLIENT = """
import boto3
boto3.client("s3").list_buckets()
print(boto3.Session().get_credentials().access_key)
"""


def moto():
    return Moto(f"{VENV}/bin/moto_server")


def plain(aws):
    """A machine that has no credentials, and no AWS but `aws`."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return kept | {
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_ENDPOINT_URL_STS": aws.url,
        "AWS_ENDPOINT_URL_S3": aws.url,
    }


def assumed(forms):
    return [form["Action"] for form in forms if form.get("Action", "").startswith("AssumeRole")]


def key_of(environment):
    """The access key that a client uses in that environment."""
    command = [PYTHON, "-c", CLIENT]
    return subprocess.check_output(command, env=environment, text=True, timeout=LIMIT).strip()


class Running:
    """A process, ended by SIGTERM, which it must take for a success."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(command, text=True, **options)

    def __enter__(self):
        return self.process

    def __exit__(self, failed, *_):
        if self.process.poll() is None:
            self.process.terminate()
        try:
            code = self.process.wait(LIMIT)
        finally:
            self.process.kill()
        assert failed or code == 0, f"{self.process.args}: {code}"
