"""Forks WORKERS, which read objects at URL through other libraries until the file END is there. In each other worker the
libraries find the endpoint by themselves; in the others they have adapters."""

import os
import sys
import time

from reading import session, tell

workers, url, end = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def of_boto3(made):
    import boto3

    from shmcreds import integrations

    client = (boto3.Session() if made is None else integrations.boto3_session(made)).client("s3", endpoint_url=url)
    return lambda: client.get_object(Bucket="b", Key="x")["Body"].read()


def of_obstore(made):
    import obstore
    from obstore.store import S3Store

    from shmcreds import integrations

    more = {} if made is None else {"credential_provider": integrations.obstore(made)}
    store = S3Store("b", endpoint=url, region="us-east-1", client_options={"allow_http": True}, **more)
    return lambda: bytes(obstore.get(store, "x").bytes())


def of_aiobotocore(made):
    import asyncio

    from aiobotocore.session import AioSession

    from shmcreds import aio

    loop, opened = asyncio.new_event_loop(), AioSession() if made is None else aio.session(made)

    async def read():
        async with opened.create_client("s3", endpoint_url=url) as client:
            return await (await client.get_object(Bucket="b", Key="x"))["Body"].read()

    return lambda: loop.run_until_complete(read())


def work(made):
    reads = [make(made) for make in (of_boto3, of_obstore, of_aiobotocore)]
    while not os.path.exists(end):
        for read in reads:
            assert read() == b"body"
        time.sleep(0.05)


made = session()
made.export()
pids = []
for number in range(workers):
    pid = os.fork()
    if pid == 0:
        try:
            work(None if number % 2 else made)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    pids.append(pid)
tell([os.waitpid(pid, 0)[1] for pid in pids])
