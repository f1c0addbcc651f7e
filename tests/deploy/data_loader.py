"""dataloader.py: eight workers of each start method of multiprocessing: one call of STS each time."""

import subprocess

import boto3

from deployment import EXAMPLES, EXEC, KEYS, PYTHON, assumed, moto, plain
from moto_aws import LIMIT

OBJECTS = 40


def main():
    with moto() as aws:
        environment = plain(aws) | KEYS
        s3 = boto3.client(
            "s3", endpoint_url=aws.url, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        s3.create_bucket(Bucket="training")
        keys = [f"sample/{number}" for number in range(OBJECTS)]
        for key in keys:
            s3.put_object(Bucket="training", Key=key, Body=b"x" * 100)
        command = [*EXEC, PYTHON, str(EXAMPLES / "dataloader.py"), "training", *keys]
        for method in ("fork", "spawn", "forkserver"):
            said = []

            def run(method=method, said=said):
                with_method = environment | {"START_METHOD": method}
                said.append(subprocess.check_output(command, env=with_method, text=True, timeout=LIMIT))

            calls = assumed(aws.recorded(run))
            assert (said, calls) == ([f"{OBJECTS * 100} bytes\n"], ["AssumeRole"]), (method, said, calls)
            print(f"data loader, {method}: {OBJECTS} objects read, 1 call of STS")


main()
