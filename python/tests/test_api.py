"""The factory, its classes and the arguments that all methods have."""

from __future__ import annotations

import boto3
import pytest
from local_sts import ROLE

import shmcreds
from shmcreds import (
    BRSConfigurationError,
    BRSValidationError,
    CustomRefreshableSession,
    IOTX509RefreshableSession,
    RefreshableSession,
    STSRefreshableSession,
)


def test_the_factory_gives_an_object_of_the_methods_class(make):
    session = make()
    assert type(session) is STSRefreshableSession
    assert isinstance(session, RefreshableSession)
    assert isinstance(session, boto3.Session)
    assert session.refresh_method == "sts-assume-role"


def test_methods():
    assert RefreshableSession.get_available_methods() == ["custom", "iot", "sts"]
    with pytest.raises(BRSValidationError, match="'nope' is no method; there are custom, iot, sts") as raised:
        RefreshableSession(method="nope")
    assert (raised.value.param, raised.value.value) == ("method", "nope")


def test_wrong_calls_are_type_errors(make):
    with pytest.raises(TypeError, match="one positional argument"):
        RefreshableSession("sts", 1)
    with pytest.raises(TypeError, match="multiple values for argument 'method'"):
        RefreshableSession("sts", method="sts")
    with pytest.raises(TypeError, match="assume_role_kwargs"):
        RefreshableSession()
    with pytest.raises(TypeError, match="'foo'"):
        make(foo=1)


def test_a_subclass_of_the_factory_is_of_both_classes(make, sts):
    class Mine(RefreshableSession):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.mine = True

    session = Mine(method="sts", assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=sts.client)
    assert isinstance(session, Mine) and isinstance(session, STSRefreshableSession) and session.mine
    assert type(session).__name__ == "Mine"
    assert session.get_credentials().access_key == sts.key(1)
    assert type(session) is type(Mine(assume_role_kwargs={"RoleArn": ROLE}))


def test_a_subclass_that_chooses_another_method_too_late_is_told(sts):
    class Mine(RefreshableSession):
        def __init__(self):
            super().__init__(method="custom", assume_role_kwargs={"RoleArn": ROLE})

    with pytest.raises(BRSConfigurationError, match="Give the method where the class is called"):
        Mine()


def test_a_subclass_of_a_method_stays_itself(sts):
    class Mine(STSRefreshableSession):
        pass

    session = Mine({"RoleArn": ROLE}, sts.client)
    assert type(session) is Mine
    assert session.get_credentials().access_key == sts.key(1)


def test_a_class_can_register_a_method():
    class Fixed(RefreshableSession, registry_key="fixed"):
        refresh_method = "fixed"

        def _get_credentials(self):
            return dict(
                access_key="a", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00+00:00"
            )

    try:
        assert "fixed" in RefreshableSession.get_available_methods()
        assert RefreshableSession(method="fixed").get_credentials().access_key == "a"
    finally:
        del shmcreds.session.Registry.items["fixed"]


def test_an_overridden_source_is_called_and_is_private(sts):
    class Mine(STSRefreshableSession):
        def _get_credentials(self):
            return {**super()._get_credentials(), "access_key": "MINE"}

    first = Mine({"RoleArn": ROLE}, sts.client)
    assert first.get_credentials().access_key == "MINE"
    assert Mine({"RoleArn": ROLE}, sts.client).status()["name"] != first.status()["name"]


def test_attributes_of_the_arguments(make):
    session = make(advisory_timeout=300, mandatory_timeout=100)
    assert session.defer_refresh is True
    assert (session.advisory_timeout, session.mandatory_timeout) == (300, 100)
    assert session.assume_role_kwargs.RoleSessionName == "boto3-refresh-session"
    assert session.sts_client_kwargs["service_name"] == "sts"


@pytest.mark.parametrize("param", ["advisory_timeout", "mandatory_timeout"])
@pytest.mark.parametrize("value", ["x", -1, 0, True, float("nan"), float("inf")])
def test_windows_are_numbers_of_seconds(make, param, value):
    with pytest.raises(BRSValidationError, match=f"'{param}' is not a number of seconds above 0") as raised:
        make(**{param: value})
    assert raised.value.param == param


def test_a_mandatory_window_longer_than_the_advisory_one_is_told(make):
    with pytest.warns(shmcreds.BRSWarning, match="'mandatory_timeout' .* is longer"):
        make(advisory_timeout=100, mandatory_timeout=200)


def test_engines(make):
    make(engine="python")
    with pytest.raises(BRSValidationError, match="'engine' is 'rust'; it must be 'auto', 'native' or 'python'"):
        make(engine="rust")


def test_the_other_classes_are_exported():
    assert CustomRefreshableSession.refresh_method == "custom"
    assert IOTX509RefreshableSession.refresh_method == "iot-x509"
    assert set(shmcreds.__all__) <= set(dir(shmcreds))


def test_session_arguments_reach_boto3(make):
    session = make(region_name="eu-west-1")
    assert session.region_name == "eu-west-1"
    assert session.client("s3").meta.region_name == "eu-west-1"


def test_the_default_session_of_boto3(make, sts, monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", make())
    url = boto3.client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    assert sts.key(1) in url
