"""Sets that are valid for long enough: ensure_valid_for, presigned URLs, tokens of databases."""

from __future__ import annotations

import re
import threading
import time
import warnings

import pytest
from local_sts import Failure
from support import run
from waiting import until

from shmcreds import BRSConfigurationError, BRSWarning, SharedSession

LIFETIME = 24.0


@pytest.fixture(params=["python", pytest.param("native", marks=pytest.mark.host)])
def session(make, sts, request):
    sts.lifetime = LIFETIME
    made = make(engine=request.param, advisory_timeout=1, mandatory_timeout=1)
    made.client("s3", region_name="us-east-1")  # Takes a moment, which would be taken off the set.
    assert made.get_credentials().access_key == sts.key(1)
    return made


def _age(session, left):
    """Until the set is valid for less than that."""
    until(lambda: session._obtainer.store.look().expires - time.time() < left)


def _presign(session, seconds=None):
    more = {} if seconds is None else {"ExpiresIn": seconds}
    client = session.client("s3", region_name="us-east-1")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, **more)
    return re.search("ASIA[0-9]+", url).group()


def test_a_set_that_lasts_is_given_without_a_call(session, sts):
    assert session.ensure_valid_for(1)["access_key"] == sts.key(1)
    assert len(sts.calls) == 1


def test_a_young_set_is_not_replaced(make, sts):
    session = make()
    session.get_credentials().access_key
    # An hour less a moment is never there: without the rule, each of them would be a call.
    assert {session.ensure_valid_for(seconds)["access_key"] for seconds in (3400, 3599, 3600, 3601)} == {sts.key(1)}
    assert len(sts.calls) == 1


def test_a_set_that_does_not_is_replaced_once(session, sts):
    _age(session, 20)
    assert session.ensure_valid_for(20)["access_key"] == sts.key(2)
    assert session.ensure_valid_for(20)["access_key"] == session.get_credentials().access_key == sts.key(2)
    assert len(sts.calls) == 2


def test_more_than_a_set_lives_is_an_error_without_a_call(session, sts):
    with pytest.raises(BRSConfigurationError, match=r"43200 s.*live for 2[0-4] s.*DurationSeconds") as raised:
        session.ensure_valid_for(12 * 3600)
    assert raised.value.code == "TooShort"
    assert len(sts.calls) == 1


@pytest.mark.parametrize("engine", ["python", pytest.param("native", marks=pytest.mark.host)])
def test_the_first_set(make, sts, engine):
    session = make(engine=engine)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Of a set of an hour, although none is there that tells how long sets live.
        assert _presign(session, 3600) == session.ensure_valid_for(3600)["access_key"] == sts.key(1)
    assert len(sts.calls) == 1


def test_a_failure_is_raised_and_the_set_stays(session, sts):
    _age(session, 20)
    sts.failure = Failure("AccessDenied")
    with pytest.raises(Exception, match="AccessDenied"):
        session.ensure_valid_for(20)
    assert session.get_credentials().access_key == sts.key(1)
    assert len(sts.calls) == 2
    # A URL is signed all the same.
    assert _presign(session, 20) == sts.key(1)


def test_urls_are_signed_with_a_set_that_lasts(session, sts):
    assert _presign(session, 1) == sts.key(1)
    _age(session, 20)
    assert _presign(session, 20) == sts.key(2)
    assert _presign(session, 20) == sts.key(2)
    assert len(sts.calls) == 2


def test_urls_that_cannot_last_warn_once(session, sts):
    with pytest.warns(BRSWarning, match=r"valid for 43200 s is valid for [0-9]+ s.*live for 2[0-4] s") as told:
        keys = {_presign(session, 12 * 3600) for _ in range(3)}
    assert keys == {sts.key(1)} and len(told) == 1 and told[0].filename == __file__
    assert len(sts.calls) == 1


def test_an_hour_of_a_role_of_an_hour_is_no_matter(make, sts):
    session = make()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert {_presign(session), _presign(session, 3600)} == {sts.key(1)}
    assert len(sts.calls) == 1


def test_threads_that_presign_at_once_cause_one_call(session, sts):
    _age(session, 20)
    keys, barrier = [], threading.Barrier(8)

    def presign():
        barrier.wait(20)
        keys.append(_presign(session, 20))

    threads = [threading.Thread(target=presign) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert keys == [sts.key(2)] * 8 and len(sts.calls) == 2


@pytest.mark.host
def test_processes_that_presign_at_once_cause_one_call(sts):
    sts.lifetime = LIFETIME
    (keys,) = run("presigning.py", 16, sts_url=sts.url)
    assert keys == [sts.key(2)] * 16 and len(sts.calls) == 2


def test_posts_and_tokens_of_databases(make, sts):
    sts.lifetime = 600
    session = make()
    post = lambda: session.client("s3").generate_presigned_post("b", "k", None, None, 6000)  # noqa: E731
    rds = lambda: session.client("rds").generate_db_auth_token("host", 1, "user")  # noqa: E731
    for sign in (post, rds):
        session._obtainer.short_told = False
        with pytest.warns(BRSWarning, match=r"valid for (6000|900) s is valid for (600|5\d\d) s"):
            assert sts.key(1) in str(sign())
    assert len(sts.calls) == 1


def test_a_client_with_keys_of_its_own(session, sts):
    client = session.client("s3", region_name="us-east-1", aws_access_key_id="AKIAOTHER", aws_secret_access_key="s")
    url = client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"}, ExpiresIn=99999)
    assert "AKIAOTHER" in url and len(sts.calls) == 1


@pytest.mark.host
def test_a_session_by_name():
    def source():
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 600))
        return dict(access_key="KEY", secret_key="s", token="t", expiry_time=expires)

    session = SharedSession.create(f"python-lasting-{threading.get_native_id()}-{time.time_ns()}", source)
    assert session.ensure_valid_for(300).access_key == "KEY"
    with pytest.raises(BRSConfigurationError, match="live for"):
        session.ensure_valid_for(3600)
    client = session.boto3_session(region_name="us-east-1").client("s3")
    with pytest.warns(BRSWarning, match="ends with the set"):
        client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})


def test_urls_of_a_young_set_ask_the_store_once(make, sts, monkeypatch):
    session = make()
    session.get_credentials().access_key
    asked, stand = [], session._obtainer.store.stand_valid_for
    monkeypatch.setattr(session._obtainer.store, "stand_valid_for", lambda *given: asked.append(given) or stand(*given))
    for _ in range(5):
        assert _presign(session, 3600) == sts.key(1)
    assert len(asked) == 1
    # Another set is looked at anew.
    session.refresh()
    assert _presign(session, 3600) == sts.key(2) and len(asked) == 2
