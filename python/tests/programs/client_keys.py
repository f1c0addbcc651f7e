"""Forks WORKERS children, which read until GENERATION the keys that a client has: KIND is aiobotocore, or the CRT of s3transfer."""

import asyncio
import os
import re
import sys
import time

from reading import session, tell

kind, workers, generation = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
made = session()


async def aiobotocore():
    from shmcreds import aio

    async with aio.session(made).create_client("s3") as client:
        while True:
            url = await client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=1)
            yield re.search("ASIA[0-9]+", url).group()
            await asyncio.sleep(0.02)


async def crt():
    from s3transfer.crt import BotocoreCRTCredentialsWrapper

    # The CRT asks on threads of its own.
    provider = BotocoreCRTCredentialsWrapper(made.get_credentials()).to_crt_credentials_provider()
    while True:
        yield provider.get_credentials().result(20).access_key_id
        time.sleep(0.02)


async def read():
    keys, end, found = set(), time.monotonic() + 60, {"aiobotocore": aiobotocore, "crt": crt}[kind]()
    while True:
        assert time.monotonic() < end, made.status()
        seen = made.status()["generation"]
        keys.add(await anext(found))
        if seen >= generation:
            await found.aclose()
            return sorted(keys)


for _ in range(workers):
    if os.fork() == 0:
        status = 1
        try:
            tell({"pid": os.getpid(), "keys": asyncio.run(read()), "name": made.status()["name"]})
            status = 0
        finally:
            os._exit(status)
assert all(os.wait()[1] == 0 for _ in range(workers))
