"""Sessions by name."""

from __future__ import annotations

import os

import pytest
from support import segments

import shmcreds
from shmcreds import BRSConfigurationError, BRSConnectionError, SharedSession

pytestmark = pytest.mark.host


def _source(key="KEY"):
    return dict(access_key=key, secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


@pytest.fixture
def name():
    return f"python-test-{os.getpid()}-{os.urandom(4).hex()}"


def test_create_attach_and_refresh(name):
    keys = iter(["A", "B"])
    session = SharedSession.create(name, lambda: _source(next(keys)))
    reader = SharedSession.attach(name)
    assert session.credentials().access_key == reader.credentials().access_key == "A"
    assert session.refresh().access_key == reader.credentials().access_key == "B"
    assert (session.name, session.status()["generation"]) == (name, 2)
    assert session.invalidate("A") is False
    assert reader.invalidate("B") is True
    assert repr(session) == f"SharedSession(name='{name}')"


def test_one_that_only_reads_is_told_so(name):
    with pytest.raises(BRSConnectionError) as raised:
        SharedSession.attach(name)
    assert raised.value.code == "Absent"


def test_two_creators(name):
    first = SharedSession.create(name, _source)
    with pytest.raises(BRSConfigurationError, match="There is a session"):
        SharedSession.create(name, _source)
    assert SharedSession.attach_or_create(name, _source).credentials() == first.credentials()


def test_a_plain_boto3_session(name):
    session = SharedSession.attach_or_create(name, _source)
    session.credentials()
    plain = shmcreds.boto3_session(name, region_name="eu-west-1")
    url = plain.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    assert "KEY" in url and plain.region_name == "eu-west-1"


def test_the_last_one_removes_the_name(name):
    sessions = [SharedSession.attach_or_create(name, _source) for _ in range(2)]
    assert segments(name) != []
    del sessions
    assert segments(name) == []


def test_what_the_segment_says_of_an_error(name):
    def source():
        raise ValueError("boom")

    first, second = (SharedSession.attach_or_create(name, source) for _ in range(2))
    with pytest.raises(ValueError, match="boom"):
        first.credentials()
    with pytest.raises(BRSConnectionError, match="ValueError: boom"):
        second.credentials()
