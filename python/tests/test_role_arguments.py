from __future__ import annotations

import copy
import pickle
import re

import pytest
from botocore.config import Config
from local_sts import ROLE

from shmcreds import AssumeRoleConfig, BRSValidationError, BRSWarning, RefreshableSession, STSClientConfig


def test_dict_and_attributes():
    role = AssumeRoleConfig(RoleArn=ROLE, DurationSeconds=900)
    assert role == {"RoleArn": ROLE, "DurationSeconds": 900}
    assert role.DurationSeconds == 900
    assert role.ExternalId is None
    role.ExternalId = "x1"
    assert role["ExternalId"] == "x1"
    with pytest.raises(AttributeError, match="no attribute 'Foo'"):
        _ = role.Foo


def _item(role, name, value):
    role[name] = value


@pytest.mark.parametrize(
    "change",
    [
        setattr,
        _item,
        lambda role, name, value: role.update({name: value}),
        lambda role, name, value: role.setdefault(name, value),
        lambda role, name, value: role.__ior__({name: value}),
    ],
)
def test_each_way_to_change_it_checks(change):
    role = AssumeRoleConfig(RoleArn=ROLE)
    with pytest.raises(BRSValidationError, match="'foo' is no argument of AssumeRoleConfig"):
        change(role, "foo", 1)
    with pytest.raises(BRSValidationError, match="'TokenCode' is not a string of 6 digits"):
        change(role, "TokenCode", "12345")
    assert role == {"RoleArn": ROLE}


@pytest.mark.parametrize("code", ["12345", "1234567", "abcdef", 123456, "123456\n", "１２３４５６"])
def test_token_codes(code):
    with pytest.raises(BRSValidationError) as raised:
        AssumeRoleConfig(RoleArn=ROLE, TokenCode=code)
    assert str(code) not in str(raised.value)


@pytest.mark.parametrize("arn", [None, 5, "", "x" * 19, "<your-role-arn>"])
def test_role_arns(arn):
    with pytest.raises(BRSValidationError, match="'RoleArn'"):
        AssumeRoleConfig(RoleArn=arn)
    with pytest.raises(BRSValidationError, match="'RoleArn'"):
        RefreshableSession(assume_role_kwargs={"RoleArn": arn})


def test_unknown_and_missing_arguments_are_type_errors():
    with pytest.raises(TypeError, match="RoleArn"):
        AssumeRoleConfig()
    with pytest.raises(TypeError, match="Foo"):
        AssumeRoleConfig(RoleArn=ROLE, Foo=1)
    with pytest.raises(TypeError, match="Foo"):
        RefreshableSession(assume_role_kwargs={"RoleArn": ROLE, "Foo": 1})
    with pytest.raises(TypeError, match="foo"):
        RefreshableSession(assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs={"foo": 1})


@pytest.mark.parametrize("param", ["assume_role_kwargs", "sts_client_kwargs"])
def test_other_types_are_refused(param):
    given = {"assume_role_kwargs": {"RoleArn": ROLE}, param: {1}}
    with pytest.raises(BRSValidationError, match=f"'{param}' is of type set") as raised:
        RefreshableSession(**given)
    assert raised.value.param == param


def test_the_callers_objects_stay_as_they_are():
    role, client = {"RoleArn": ROLE}, STSClientConfig(region_name="us-east-1")
    config = AssumeRoleConfig(RoleArn=ROLE)
    RefreshableSession(assume_role_kwargs=role, sts_client_kwargs=client)
    RefreshableSession(assume_role_kwargs=config)
    assert (role, config) == ({"RoleArn": ROLE}, {"RoleArn": ROLE})
    assert client == {"service_name": "sts", "region_name": "us-east-1"}


def test_another_service_is_told_and_sts_is_taken():
    with pytest.warns(BRSWarning, match="'service_name' is 's3'") as told:
        assert STSClientConfig(service_name="s3").service_name == "sts"
    assert told[0].filename == __file__
    with pytest.raises(BRSValidationError, match="'service_name' is of type int"):
        STSClientConfig(service_name=5)


def test_secrets_are_not_shown():
    shown = repr(AssumeRoleConfig(RoleArn=ROLE, ExternalId="guess-me", TokenCode="123456"))
    shown += repr(STSClientConfig(aws_secret_access_key="secret-1", aws_session_token="token-1"))
    assert not re.search("guess-me|123456[^0-9]|secret-1|token-1", shown.replace(ROLE, ""))


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda c: c.copy(), lambda c: pickle.loads(pickle.dumps(c))])
def test_copies_are_equal_and_apart(duplicate):
    role = AssumeRoleConfig(RoleArn=ROLE, Tags=[{"Key": "a", "Value": "b"}])
    other = duplicate(role)
    assert type(other) is AssumeRoleConfig and other == role
    other.ExternalId = "x"
    assert role.ExternalId is None


def test_a_config_object_is_kept():
    config = Config(retries={"max_attempts": 3})
    assert STSClientConfig(config=config).config is config
