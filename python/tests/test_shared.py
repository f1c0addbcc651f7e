"""Sessions by name."""

from __future__ import annotations

import copy
import os
import pickle
import threading

import pytest
from support import run, segments

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


def test_of_two_processes_that_create_at_once_one_succeeds():
    (told,) = run("create_race.py", 20)
    assert told == {"1": 20}


def test_of_threads_that_create_at_once_one_succeeds(name):
    made, told, barrier = [], [], threading.Barrier(8)

    def create():
        barrier.wait(20)
        try:
            made.append(SharedSession.create(name, _source))
        except BRSConfigurationError as error:
            told.append(error.code)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert (len(made), told) == (1, ["InUse"] * 7)


def test_a_child_cannot_create_what_its_parent_has(name):
    made = SharedSession.create(name, _source)
    child = os.fork()
    if child == 0:
        try:
            SharedSession.create(name, _source)
        except BRSConfigurationError as error:
            os._exit(0 if str(os.getppid()) in str(error) else 4)
        os._exit(3)
    assert os.waitpid(child, 0)[1] == 0
    assert made.credentials().access_key == "KEY"


def test_what_killed_processes_left_is_no_session(name, own_directory):
    child = os.fork()
    if child == 0:
        made = SharedSession.create(name, _source)
        made.credentials()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert any(name in entry for entry in os.listdir(own_directory))
    assert SharedSession.create(name, lambda: _source("NEW")).credentials().access_key == "NEW"


def test_a_name_that_cannot_be_one():
    with pytest.raises(BRSConfigurationError, match="name"):
        SharedSession.create("a/b", _source)


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


def test_it_can_be_pickled(name):
    session = SharedSession.attach_or_create(name, _source, advisory_timeout=100)
    reader = SharedSession.attach(name)
    assert session.credentials().access_key == "KEY"
    for one in (session, reader):
        again = pickle.loads(pickle.dumps(one))
        assert (type(again), again.name, again.credentials()) == (SharedSession, name, session.credentials())
        assert copy.deepcopy(one).name == name
    assert pickle.loads(pickle.dumps(session)).refresh().access_key == "KEY"
    assert b"KEY" not in pickle.dumps(session)
    with pytest.raises(BRSConfigurationError, match="has no source"):
        pickle.loads(pickle.dumps(reader)).refresh()
