"""A server as gunicorn runs it: each worker has an S3 client of its own, made at its first request."""

import functools
import json
import os

import boto3


@functools.cache
def client():
    # An old one reads no AWS_ENDPOINT_URL_S3.
    return boto3.client("s3", endpoint_url=os.environ.get("S3_URL"))


def app(environ, start_response):
    client().list_buckets()
    key = client()._request_signer._credentials.access_key
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "key": key}).encode()]
