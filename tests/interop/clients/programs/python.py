"""Clients for Python. Each asks S3 at S3_URL once; with AGAIN_AFTER once more, with the same client, after as many
seconds.

usage: python.py CLIENT
"""

import os
import sys
import time

URL = os.environ["S3_URL"]
# Only where the environment says it: else the client looks for it itself.
REGION = {"region": os.environ["AWS_REGION"]} if "AWS_REGION" in os.environ else {}


def boto3():
    import boto3
    from botocore.config import Config

    s3 = boto3.client("s3", endpoint_url=URL, config=Config(s3={"addressing_style": "path"}))
    return lambda: s3.list_buckets()


def boto2():
    import boto
    from boto.s3.connection import OrdinaryCallingFormat

    host, port = URL.removeprefix("http://").split(":")
    s3 = boto.connect_s3(host=host, port=int(port), is_secure=False, calling_format=OrdinaryCallingFormat())
    return lambda: s3.get_all_buckets()


def aiobotocore():
    import asyncio

    from aiobotocore.session import get_session

    loop = asyncio.new_event_loop()
    s3 = loop.run_until_complete(get_session().create_client("s3", endpoint_url=URL).__aenter__())
    return lambda: loop.run_until_complete(s3.list_buckets())


def awscrt():
    """The chain of AWS's C libraries; botocore only sends."""
    import boto3
    from awscrt import auth, io

    loops = io.EventLoopGroup(1)
    chain = auth.AwsCredentialsProvider.new_default_chain(io.ClientBootstrap(loops, io.DefaultHostResolver(loops)))

    def ask():
        found = chain.get_credentials().result(30)
        keys = {"aws_access_key_id": found.access_key_id, "aws_secret_access_key": found.secret_access_key}
        boto3.client("s3", endpoint_url=URL, aws_session_token=found.session_token, **keys).list_buckets()

    return ask


def obstore():
    import obstore
    import obstore.store

    options = {"client_options": {"allow_http": True}, "retry_config": {"max_retries": 0}}
    store = obstore.store.S3Store("bucket", endpoint=URL, **REGION, **options)
    return lambda: list(obstore.list(store))


def polars():
    import polars

    options = {"aws_endpoint_url": URL, "aws_allow_http": "true", "max_retries": 0}
    return lambda: without_data(lambda: polars.scan_csv("s3://bucket/absent.csv", storage_options=options).collect())


def deltalake():
    import deltalake

    options = {"AWS_ENDPOINT_URL": URL, "AWS_ALLOW_HTTP": "true", "max_retries": "0"}
    return lambda: without_data(lambda: deltalake.DeltaTable("s3://bucket/absent", storage_options=options))


def opendal():
    import opendal

    s3 = opendal.Operator("s3", bucket="bucket", endpoint=URL, **REGION)
    return lambda: list(s3.list("/"))


def minio():
    from minio import Minio
    from minio.credentials import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider

    chain = ChainedProvider([EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()])
    client = Minio(URL.removeprefix("http://"), secure=False, credentials=chain, **REGION)
    return lambda: client.list_buckets()


def pyarrow():
    """The AWS SDK for C++."""
    from pyarrow import fs

    s3 = fs.S3FileSystem(endpoint_override=URL, **REGION)
    return lambda: s3.get_file_info(fs.FileSelector("bucket"))


def tiledb():
    """The AWS SDK for C++, of another version."""
    import tiledb

    settings = {"vfs.s3.endpoint_override": URL.removeprefix("http://"), "vfs.s3.scheme": "http"}
    settings |= {"vfs.s3.use_virtual_addressing": "false", "vfs.s3.region": REGION.get("region", "")}
    files = tiledb.VFS(ctx=tiledb.Ctx(settings))
    return lambda: files.ls("s3://bucket/")


def s3torchconnector():
    """The client of Mountpoint for S3, over AWS's C libraries."""
    from s3torchconnectorclient._mountpoint_s3_client import MountpointS3Client

    client = MountpointS3Client(
        region=REGION.get("region", "us-east-1"), endpoint=URL, force_path_style=True, user_agent_prefix="t"
    )
    return lambda: list(client.list_objects("bucket"))


def without_data(ask):
    """The bucket is empty, which these clients take for a failure: who signed is what counts."""
    try:
        ask()
    except Exception as error:
        print(type(error).__name__, str(error)[:300], file=sys.stderr)


ask = globals()[sys.argv[1]]()
ask()
if "AGAIN_AFTER" in os.environ:
    time.sleep(float(os.environ["AGAIN_AFTER"]))
    ask()
