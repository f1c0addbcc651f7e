"""A server that forks a worker, which presigns. Tells the private memory of the worker in KiB. WHO gives the credentials."""

import gc
import os
import re
import sys

import boto3
from reading import session, tell

who = sys.argv[1]
static = boto3.Session("AKIA", "secret", "token", region_name="us-east-1")
sts = {"service_name": "sts", "endpoint_url": os.environ["TEST_STS"], "region_name": "us-east-1"}
if who == "shmcreds":
    made = session()
    made.get_credentials().access_key
else:
    made = static
    # So that what botocore loads with a first client is the parent's in both cases.
    static.client(**sts).get_caller_identity()
if os.fork() == 0:
    # A collection writes to pages that are shared with the parent. Whether one comes is chance.
    gc.disable()
    if who == "an STS client each":
        kept = static.client(**sts)
        kept.get_caller_identity()
    s3 = made.client("s3", region_name="us-east-1")
    for _ in range(100):
        s3.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=60)
    with open("/proc/self/smaps_rollup") as rollup:
        sizes = re.findall("Private_(?:Clean|Dirty): +([0-9]+) kB", rollup.read())
    tell(sum(map(int, sizes)))
    os._exit(0)
assert os.wait()[1] == 0
