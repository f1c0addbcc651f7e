"""When a set is fetched, by whom, and what callers get."""

from __future__ import annotations

import threading
import time

import botocore.exceptions
import pytest
from local_sts import Failure
from waiting import until

from shmcreds import BRSWarning, process_store
from shmcreds.store import Fetched


def test_a_600_s_set_is_fetched_once(make, sts):
    sts.lifetime = 600
    session = make()
    keys = {session.get_credentials().get_frozen_credentials().access_key for _ in range(1000)}
    assert keys == {sts.key(1)}
    assert len(sts.calls) == 1


def test_the_constructor_calls_nothing(make, sts):
    session = make()
    assert sts.calls == []
    assert session.status()["state"] == "empty"


def test_sessions_with_one_recipe_share_a_set(make, sts):
    first, second = make(), make()
    assert first.status()["name"] == second.status()["name"]
    assert first.credentials == second.credentials
    assert len(sts.calls) == 1


def test_many_threads_make_one_call(make, sts):
    sts.delay = 0.2
    session = make()
    keys = []
    read = lambda: keys.append(session.get_credentials().access_key)  # noqa: E731
    threads = [threading.Thread(target=read) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert keys == [sts.key(1)] * 16
    assert len(sts.calls) == 1


def _window(session):
    """How long before its expiry the set is due: at least and at most, since the clocks are not read at one moment."""
    store = session.get_credentials()._obtainer.store
    before = time.time()
    look = store.look()
    after = time.time()
    return look.expires - after - look.refresh_in - 1, look.expires - before - look.refresh_in + 1


@pytest.mark.parametrize("advisory", [1600, 60])
@pytest.mark.parametrize(
    ("engine", "deferred"),
    [
        ("python", True),
        ("python", False),
        pytest.param("native", True, marks=pytest.mark.host),
        pytest.param("native", False, marks=pytest.mark.program),
    ],
)
def test_the_advisory_window_holds(make, sts, advisory, engine, deferred):
    session = make(advisory_timeout=advisory, engine=engine, defer_refresh=deferred)
    assert session.get_credentials().access_key == sts.key(1)
    least, most = _window(session)
    assert least < advisory < most


def test_the_window_follows_the_lifetime(make, sts):
    session = make()
    session.get_credentials().access_key
    least, most = _window(session)
    # From a quarter of an hour to half of the life, by chance.
    assert most > 900 and least < 1800


def test_windows_set_on_the_credentials_object_are_heard(make, sts):
    session = make()
    session.get_credentials()._advisory_refresh_timeout = 60
    session.get_credentials().access_key
    least, most = _window(session)
    assert least < 60 < most


def test_a_window_longer_than_half_the_life_is_told(make, sts):
    sts.lifetime = 100
    session = make(advisory_timeout=90)
    with pytest.warns(BRSWarning, match="'advisory_timeout' is 90 s, and the set lives 100 s"):
        session.get_credentials().access_key
    least, most = _window(session)
    assert least < 9 / 20 * session.get_credentials()._obtainer.store.lifetime() < most
    assert len(sts.calls) == 1


def test_in_the_advisory_window_one_caller_refreshes(make, sts):
    sts.lifetime = 1.2
    session = make()
    credentials = session.get_credentials()
    assert credentials.access_key == sts.key(1)
    # A busy machine may see the set again when it has expired.
    until(lambda: session.status()["state"] != "fresh")
    assert credentials.access_key == sts.key(2)
    assert len(sts.calls) == 2


def test_a_failure_while_a_set_is_valid_is_no_error(make, sts, caplog):
    sts.lifetime = 5.0
    session = make()
    session._sts_client  # Kept: the refresh is one request.
    credentials = session.get_credentials()
    assert credentials.access_key == sts.key(1)
    sts.failure = Failure("AccessDenied")
    until(lambda: session.status()["last_failure"] is not None or credentials.access_key != sts.key(1))
    failure = session.status()["last_failure"]
    assert (failure["kind"], failure["code"], failure["message"]) == ("terminal", "AccessDenied", "no")
    assert "the refresh failed (terminal, AccessDenied)" in caplog.text
    store = credentials._obtainer.store
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        until(lambda: credentials.access_key != sts.key(1))
    # No read fails earlier. Two clocks: a tenth is no difference.
    assert time.time() > store.look().expires - 0.1
    assert raised.value.response["Error"]["Code"] == "AccessDenied"
    assert len(sts.calls) <= 3


def test_one_failure_is_one_call(make, sts):
    sts.failure = Failure("AccessDenied", "not you")
    session = make()
    raised = []
    for _ in range(5):
        with pytest.raises(botocore.exceptions.ClientError) as error:
            session.get_credentials().access_key
        raised.append(error.value)
    assert len(sts.calls) == 1
    for error in raised:
        assert error.operation_name == "AssumeRole"
        assert error.response["Error"]["Code"] == "AccessDenied"
        assert error.response["Error"]["Message"] == "not you"
        assert error.response["ResponseMetadata"]["RequestId"] == "req-failed"
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_all_threads_get_the_failure(make, sts):
    sts.failure = Failure("AccessDenied")
    sts.delay = 0.2
    session = make()
    codes = []

    def read():
        try:
            session.get_credentials().access_key
        except botocore.exceptions.ClientError as error:
            codes.append(error.response["Error"]["Code"])

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert codes == ["AccessDenied"] * 8
    assert len(sts.calls) == 1


def test_another_attempt_comes_after_the_back_off(make, sts):
    sts.failure = Failure("InternalFailure", status=400)
    session = make(client={"config": _no_retries()})
    with pytest.raises(botocore.exceptions.ClientError, match="InternalFailure"):
        session.get_credentials().access_key
    assert session.status()["last_failure"]["kind"] == "transient"
    sts.failure = None
    until(lambda: session.status()["last_failure"] is None)
    assert session.get_credentials().access_key == sts.key(2)


def test_refresh_gets_another_set(make, sts):
    session = make()
    assert session.refresh()["access_key"] == sts.key(1)
    assert session.refresh()["access_key"] == sts.key(2)
    assert session.get_credentials().access_key == sts.key(2)
    assert session.status()["generation"] == 2


def test_eager_refreshes_without_reads(make, sts):
    sts.lifetime = 1.5
    session = make(engine="python", defer_refresh=False)
    assert len(sts.calls) == 1
    # A call is counted before its set is there, and a busy machine sees a set of 1.5 s in any state.
    until(lambda: session.status()["generation"] >= 3)
    assert len(sts.calls) >= 3


def test_eager_raises_in_the_constructor(make, sts):
    sts.failure = Failure("AccessDenied")
    with pytest.raises(botocore.exceptions.ClientError):
        make(defer_refresh=False)


def test_the_refresh_thread_ends_with_its_session(make, sts):
    import gc

    session = make(engine="python", defer_refresh=False)
    thread = session._refresh_thread._thread
    assert thread.is_alive()
    del session
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()


def test_a_clock_that_differs_from_that_of_sts_is_corrected(make, sts):
    sts.skew = 900
    session, before = make(), time.time()
    session.get_credentials().access_key
    after = time.time()
    # The correction has the way of the answer in it, and a `Date` has whole seconds.
    expires = session.get_credentials()._obtainer.store.look().expires
    assert before + 3600 - 2 < expires < after + 3600 + (after - before) + 2


def test_a_set_that_has_expired_is_refused(make, sts):
    sts.lifetime = -5
    session = make()
    with pytest.raises(Exception, match="expired"):
        session.get_credentials().access_key
    assert session.status()["generation"] == 0


def test_a_term_given_up_is_a_failure_that_passes():
    store = process_store.ProcessStore("x", b"", process_store.Windows(), "")
    assert isinstance(store.stand(0), process_store.ProcessTerm)
    assert store.counters() == (1, 1)
    assert store.back_off().failure.kind == "transient"


def test_the_expiry_follows_the_wall_clock(monkeypatch):
    """Others compare it with that clock. An expiry from before a step would make them drop a valid set, or keep an expired one."""
    store, real = process_store.ProcessStore("x", b"", process_store.Windows(), ""), time.time
    expires = real() + 600
    store.stand(0).publish(Fetched("key", "secret", "token", expires))
    assert store.look().expires == expires
    for step in (86_400, -86_400):
        monkeypatch.setattr(time, "time", lambda step=step: real() + step)
        assert store.look().expires - time.time() == pytest.approx(expires - real(), abs=0.5)
        assert store.look().state == "fresh"


def _no_retries():
    from botocore.config import Config

    return Config(retries={"max_attempts": 0})
