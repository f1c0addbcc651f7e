"""aiobotocore with a shared session."""

from __future__ import annotations

import asyncio
import sys
import time

import pytest
from local_sts import ACCOUNT
from waiting import until

from shmcreds import BRSConfigurationError, BRSWarning, aio


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.host)])
def session(make, request):
    return make(engine=request.param)


def test_a_rotation_is_seen_at_the_next_request(session, sts):

    async def run():
        async with aio.session(session).create_client("s3") as client:
            urls = []
            for _ in range(2):
                parameters = {"Bucket": "b", "Key": "k"}
                urls.append(await client.generate_presigned_url("get_object", Params=parameters))
                await asyncio.to_thread(session.refresh)
            return urls

    urls = asyncio.run(run())
    assert sts.key(1) in urls[0] and sts.key(2) in urls[1]


def test_a_presigned_url_is_signed_with_a_set_that_lasts(make, sts):
    sts.lifetime = 24.0
    session = make(advisory_timeout=1, mandatory_timeout=1)
    parameters = {"Bucket": "b", "Key": "k"}

    async def run():
        async with aio.session(session).create_client("s3") as client:
            urls = [await client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=1)]
            look = session._obtainer.store.look()
            while look.expires - time.time() > 20:
                await asyncio.sleep(0.01)
            calls = [client.generate_presigned_url("get_object", Params=parameters, ExpiresIn=20) for _ in range(8)]
            urls += await asyncio.gather(*calls)
            urls.append(str(await client.generate_presigned_post("b", "k", ExpiresIn=20)))
            return urls

    urls = asyncio.run(run())
    assert sts.key(1) in urls[0] and all(sts.key(2) in url for url in urls[1:])
    assert len(sts.calls) == 2


def test_a_presigned_url_that_cannot_last_warns(make, sts):
    async def run():
        async with aio.session(make()).create_client("s3") as client:
            with pytest.warns(BRSWarning, match="valid for 43200 s"):
                await client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=43200)

    asyncio.run(run())
    assert len(sts.calls) == 1


def test_a_request_with_the_next_set_after_a_rejection(session, sts):
    rejected = session.get_credentials().access_key
    fetched = time.monotonic()
    until(lambda: time.monotonic() > fetched + 5.1)
    signed = []

    def send(request, **_):
        key = request.headers["Authorization"].decode().split("Credential=")[1].split("/")[0]
        signed.append(key)
        return _Answer(400, b'{"__type":"ExpiredToken"}') if key == rejected else _Answer(200, b"{}")

    async def run():
        made = aio.session(session)
        async with made.create_client("sqs", endpoint_url="http://127.0.0.1:9") as client:
            client.meta.events.register("before-send", send)
            await client.list_queues()

    asyncio.run(run())
    assert signed == [rejected, sts.key(2)]


def test_the_loop_runs_during_a_fetch(session, sts):
    answered = []

    async def tick():
        while not sts.calls:
            await asyncio.sleep(0.01)
        for _ in range(10):
            await asyncio.sleep(0.01)
        answered.extend(sts.answered)
        sts.release()

    async def run():
        task = asyncio.create_task(tick())
        credentials = aio.session(session)._credentials
        found = await credentials.get_access_key(), await credentials.get_account_id()
        await task
        return found

    with sts.holding():
        assert asyncio.run(run()) == (sts.key(1), ACCOUNT)
    # The loop ran ten times before there was an answer.
    assert answered == []


def test_the_region_is_that_of_the_session(make):
    async def run():
        async with aio.session(make(region_name="eu-west-1")).create_client("s3") as client:
            return client.meta.region_name

    assert asyncio.run(run()) == "eu-west-1"


def test_without_aiobotocore(make, monkeypatch):
    monkeypatch.setitem(sys.modules, "aiobotocore.session", None)
    with pytest.raises(BRSConfigurationError, match="pip install shmcreds.aio."):
        aio.session(make())


class _Answer:
    def __init__(self, status, body):
        self.status_code = status
        self.headers = {"Content-Type": "application/x-amz-json-1.0"}
        self._body = body
        self.raw = None

    @property
    async def content(self):
        return self._body

    @property
    async def text(self):
        return self._body.decode()
