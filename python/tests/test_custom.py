from __future__ import annotations

import datetime

import pytest

from shmcreds import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSValidationError,
    CustomRefreshableSession,
    RefreshableSession,
)

HOUR = datetime.timedelta(hours=1)


def _given(**changes):
    expiry = datetime.datetime.now(datetime.timezone.utc) + HOUR
    given = dict(access_key="a", secret_key="s", token="t", expiry_time=expiry.isoformat())
    return {k: v for k, v in {**given, **changes}.items() if v != "leave out"}


def _session(method, **kwargs):
    return RefreshableSession(method="custom", custom_credentials_method=method, **kwargs)


def _read(given):
    return _session(lambda: given).get_credentials().get_frozen_credentials()


def test_a_function_gives_the_set():
    session = _session(lambda name: _given(access_key=name), custom_credentials_method_args={"name": "A"})
    assert type(session) is CustomRefreshableSession
    assert session.get_credentials().get_frozen_credentials()[:3] == ("A", "s", "t")
    assert session.source_identity()["source"] == "'<lambda>'"


def test_expiry_as_datetime_and_account_id():
    zone = datetime.timezone(datetime.timedelta(hours=5))
    frozen = _read(_given(expiry_time=datetime.datetime.now(zone) + HOUR, account_id="123456789012"))
    assert frozen.account_id == "123456789012"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"access_key": "leave out"}, "without access_key"),
        ({"token": "leave out", "secret_key": "leave out"}, "without secret_key, token"),
        ({"token": None}, "'token' as a NoneType"),
        ({"secret_key": ""}, "'secret_key' as an empty text"),
        ({"access_key": 5}, "'access_key' as a int"),
        ({"expiry_time": "foo"}, "'expiry_time' is no ISO 8601 time"),
        ({"expiry_time": 5}, "'expiry_time' is a int"),
        ({"expiry_time": "2099-01-01T00:00:00"}, "'expiry_time' has no time zone"),
        ({"expiry_time": "2020-01-01T00:00:00Z"}, "expired"),
    ],
)
def test_what_is_no_set(changes, problem):
    with pytest.raises(BRSCredentialError, match=problem):
        _read(_given(**changes))


@pytest.mark.parametrize("given", [None, [1], "x"])
def test_what_is_no_dict(given):
    with pytest.raises(BRSCredentialError, match="it must give a dict"):
        _read(given)


def test_arguments_are_checked():
    with pytest.raises(BRSValidationError, match="'custom_credentials_method' is of type int"):
        _session(5)
    with pytest.raises(BRSValidationError, match="'custom_credentials_method_args' is of type list"):
        _session(_given, custom_credentials_method_args=[1])
    with pytest.raises(TypeError, match="custom_credentials_method"):
        RefreshableSession(method="custom")


def test_what_the_function_raises_comes_through_and_is_not_asked_for_again():
    calls = []

    def method():
        calls.append(1)
        raise ValueError("boom")

    session = _session(method)
    for _ in range(3):
        with pytest.raises(ValueError, match="boom"):
            session.get_credentials().access_key
    assert len(calls) == 1


def test_another_session_of_the_set_gets_what_was_told():
    def method():
        raise ValueError("boom")

    first, second = _session(method, name="custom-failure"), _session(method, name="custom-failure")
    with pytest.raises(ValueError, match="boom"):
        first.get_credentials().access_key
    with pytest.raises(BRSConnectionError, match="ValueError: boom"):
        second.get_credentials().access_key
    first.unlink()


def test_a_source_that_uses_its_own_session_is_told():
    session = _session(lambda: session.credentials)
    with pytest.raises(BRSConfigurationError, match="The source uses the session"):
        session.get_credentials().access_key


def test_two_closures_of_one_name_have_two_sets():
    def closure(key):
        def method():
            return _given(access_key=key)

        return method

    first, second = _session(closure("A")), _session(closure("B"))
    assert (first.get_credentials().access_key, second.get_credentials().access_key) == ("A", "B")
    assert first.status()["name"] != second.status()["name"]
