from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import tempfile

import botocore.session
import pytest
from botocore.config import Config
from local_sts import ROLE

from shmcreds import CustomRefreshableSession, RefreshableSession, STSRefreshableSession


UNPICKLES = "import pickle, sys; print(pickle.load(sys.stdin.buffer).credentials['access_key'])"


def key_in_a_worker(session, **environment):
    """As a worker of dask or ray: a process that gets the pickle."""
    given, told = pickle.dumps(session), {**os.environ, **environment}
    done = subprocess.run([sys.executable, "-c", UNPICKLES], input=given, env=told, capture_output=True, check=True)
    return done.stdout.decode().strip()


class Mine(RefreshableSession):
    def __init__(self, url):
        client = {"endpoint_url": url, "region_name": "us-east-1"}
        super().__init__(assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client)


def give():
    return dict(access_key="a", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


@pytest.mark.parametrize("again", [lambda s: pickle.loads(pickle.dumps(s)), copy.copy, copy.deepcopy])
def test_it_is_the_same_session_again(make, sts, again):
    session = make(region_name="eu-west-1", client={"config": Config(read_timeout=3)})
    other = again(session)
    assert type(other) is STSRefreshableSession and other is not session
    assert other.region_name == "eu-west-1"
    assert other.status()["name"] == session.status()["name"]
    assert session.credentials == other.credentials
    assert len(sts.calls) == 1


@pytest.mark.host
def test_a_worker_of_this_host_has_the_set_and_one_of_another_host_its_own(make, sts):
    session = make()
    assert session.credentials["access_key"] == key_in_a_worker(session) == sts.key(1)
    # Another host has another shared memory.
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other_host:
        assert key_in_a_worker(session, SHMCREDS_DIR=other_host) == sts.key(2)
    assert len(sts.calls) == 2


def test_a_private_one_keeps_its_name(make, sts):
    session = make(shared=False)
    other = pickle.loads(pickle.dumps(session))
    assert other.status()["name"] == session.status()["name"]
    assert session.credentials == other.credentials
    assert len(sts.calls) == 1


def test_a_function_is_pickled_by_its_name():
    session = CustomRefreshableSession(give)
    other = pickle.loads(pickle.dumps(session))
    assert other.status()["name"] == session.status()["name"]
    assert other.credentials == session.credentials
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(CustomRefreshableSession(lambda: give()))


def test_a_subclass_of_the_factory(sts):
    session = Mine(sts.url)
    other = pickle.loads(pickle.dumps(session))
    assert isinstance(other, Mine) and isinstance(other, STSRefreshableSession)
    assert other.credentials == session.credentials


def test_an_own_botocore_session_is_no_plain_data(make):
    with pytest.raises(TypeError, match="'botocore_session' cannot be pickled"):
        pickle.dumps(make(botocore_session=botocore.session.Session()))


def test_an_eager_one_leaves_refreshing_to_the_first(make, sts):
    session = make(engine="python", defer_refresh=False)
    other = pickle.loads(pickle.dumps(session))
    assert (session._refresh_thread is None, other._refresh_thread is None) == (False, True)


def test_the_credentials_object_is_copied_as_itself_and_not_pickled(make, sts):
    credentials = make().get_credentials()
    assert copy.deepcopy({"credentials": credentials})["credentials"] is copy.copy(credentials) is credentials
    with pytest.raises(TypeError, match="Pickle the session"):
        pickle.dumps(credentials)
