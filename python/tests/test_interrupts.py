"""A call of the source that something else ends: a handler of a signal, the end of the program, a fork."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from support import run
from waiting import until

import shmcreds
from shmcreds import BRSConnectionError
from shmcreds.credentials import isoformat
from shmcreds.interrupts import is_interrupt

KEYS = dict(secret_key="s", token="t")


class Limit(Exception):
    """As SoftTimeLimitExceeded of Celery."""


def _raise(*_):
    raise Limit("too long")


class Handler:
    def __call__(self, *_):
        raise Limit("too long")

    def method(self, *_):
        raise Limit("too long")


@pytest.fixture
def alarm():
    before = signal.signal(signal.SIGALRM, _raise)
    yield lambda: signal.raise_signal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, before)


class Source:
    """Gives set after set. `before` is called in its place, once for each entry."""

    def __init__(self, *before, life=3600.0):
        self.before, self.life, self.calls = list(before), life, 0

    def __call__(self):
        self.calls += 1
        if self.before:
            action = self.before.pop(0)
            if action is not None:
                action()
        return dict(access_key=f"KEY{self.calls}", expiry_time=isoformat(time.time() + self.life), **KEYS)


def _session(source, **given):
    return shmcreds.RefreshableSession(method="custom", custom_credentials_method=source, **given)


def test_a_time_limit_is_raised_once(alarm):
    session = _session(Source(alarm))
    read = lambda: session.get_credentials().access_key  # noqa: E731
    with pytest.raises(Limit):
        read()
    # Not the same again, where no limit is over.
    with pytest.raises(BRSConnectionError, match="the call of the source was interrupted by Limit"):
        read()
    until(lambda: session.status()["last_failure"] is None)
    assert read() == "KEY2"


def test_a_time_limit_is_raised_although_a_set_is_valid(alarm):
    session = _session(Source(None, alarm, life=10), advisory_timeout=4.5)
    assert session.get_credentials().access_key == "KEY1"
    until(lambda: session.status()["state"] == "advisory")
    with pytest.raises(Limit):
        session.get_credentials().access_key
    assert session.get_credentials().access_key == "KEY1"


def test_a_time_limit_is_raised_while_a_url_is_signed(alarm):
    source = Source(None, alarm, life=20)
    session = _session(source)
    url = session.client("s3", region_name="us-east-1").generate_presigned_url
    assert "KEY1" in url("list_buckets", ExpiresIn=5)
    until(lambda: session._obtainer.store.look().expires - time.time() < 16)
    with pytest.raises(Limit):
        url("list_buckets", ExpiresIn=19)
    assert source.calls == 2


def test_a_time_limit_is_raised_while_a_rejected_set_is_replaced(alarm):
    from shmcreds.rejection import RejectionHook

    session = _session(Source(None, alarm))
    assert session.get_credentials().access_key == "KEY1"
    hook = RejectionHook(session._obtainer)
    session._obtainer.reject("KEY1")
    # A young set stays for a moment.
    with pytest.raises(Limit):
        until(lambda: hook.is_replaced("KEY1"))


@pytest.mark.parametrize("handler", [_raise, Handler(), Handler().method, lambda *_: _raise()])
def test_handlers_of_all_kinds_are_known(alarm, handler):
    signal.signal(signal.SIGALRM, handler)
    with pytest.raises(Limit) as raised:
        alarm()
    assert is_interrupt(raised.value)
    with pytest.raises(ValueError, match="x") as raised:
        int("x")
    assert not is_interrupt(raised.value)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_the_end_of_the_program_is_told_to_others_as_an_interrupt(error):
    def end():
        raise error

    session = _session(Source(end))
    with pytest.raises(type(error)):
        session.get_credentials().access_key
    with pytest.raises(BRSConnectionError, match=f"interrupted by {type(error).__name__}"):
        session.get_credentials().access_key


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()])
def test_the_refresh_thread_outlives_a_source_that_ends_the_program(error):
    def end():
        raise error

    source = Source(None, end, life=6)
    session = _session(source, defer_refresh=False)
    until(lambda: source.calls >= 3)
    assert session._refresh_thread._thread.is_alive()
    until(lambda: session.status()["generation"] >= 2)


@pytest.mark.host
def test_a_child_that_the_source_forks_is_not_the_source():
    assert run("fork_in_source.py") == [["parent", "KEY"], ["child", "KEY"]]


def test_greenlets_are_told_apart_where_gevent_patches_late():
    assert run("greenlets_late.py") == [["KEY"] * 5, 1]
