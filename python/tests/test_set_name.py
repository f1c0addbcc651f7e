"""Which sessions share a set, and what their names tell."""

from __future__ import annotations

import pathlib
import re

import pytest
from botocore.config import Config
from local_sts import ROLE

from shmcreds import BRSWarning, IOTX509RefreshableSession
from shmcreds.set_name import Digest


def _name(make, **given):
    return make(**given).status()["name"]


def test_the_form_of_a_name(make):
    assert re.fullmatch("py1-[a-z2-7]{52}", _name(make))
    assert len(_name(make)) <= 64


@pytest.mark.parametrize(
    "other",
    [
        {"role": {"RoleArn": ROLE + "2"}},
        {"role": {"RoleSessionName": "x"}},
        {"role": {"DurationSeconds": 900}},
        {"role": {"SourceIdentity": "ab"}},
        {"role": {"Tags": [{"Key": "a", "Value": "b"}]}},
        {"role": {"PolicyArns": [{"arn": "arn:aws:iam::1:policy/x"}]}},
        {"client": {"region_name": "eu-west-1"}},
        {"client": {"endpoint_url": "http://127.0.0.1:9"}},
        {"client": {"verify": False}},
        {"client": {"config": Config(proxies={"http": "http://p:1"})}},
        {"client": {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "s"}},
        {"aws_access_key_id": "AKIAX", "aws_secret_access_key": "s"},
    ],
)
def test_what_makes_another_name(make, other):
    assert _name(make) != _name(make, **other)
    assert _name(make, **other) == _name(make, **other)


@pytest.mark.parametrize(
    "same",
    [
        {"advisory_timeout": 60},
        {"client": {"config": Config(retries={"max_attempts": 9}, read_timeout=3)}},
        {"client": {"service_name": "sts"}},
    ],
)
def test_what_makes_no_other_name(make, same):
    assert _name(make) == _name(make, **same)


@pytest.mark.parametrize(
    "variable", ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                 "AWS_ENDPOINT_URL_STS", "HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"],
)  # fmt: skip
def test_other_base_identities_have_other_names(make, variable, monkeypatch, tmp_path):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text("[profile other]\nregion = us-east-1\n")
    first = _name(make)
    monkeypatch.setenv(variable, "other")
    if variable in ("HOME", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    assert _name(make) != first


def test_two_profiles_have_two_sets(make, sts, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "".join(f"[{p}]\naws_access_key_id = AKIA{p}\naws_secret_access_key = s\n" for p in ("ONE", "TWO"))
    )
    keys = [make(profile_name=p).get_credentials().access_key for p in ("ONE", "TWO")]
    assert keys == [sts.key(1), sts.key(2)]
    monkeypatch.setenv("AWS_PROFILE", "ONE")
    assert make().get_credentials().access_key == sts.key(3)
    monkeypatch.setenv("AWS_PROFILE", "TWO")
    assert make().get_credentials().access_key == sts.key(4)
    assert sts.callers == ["AKIAONE", "AKIATWO", "AKIAONE", "AKIATWO"]


@pytest.mark.parametrize("secret", ["ExternalId", "Policy"])
def test_two_guessable_secrets_have_one_name_and_two_sets(make, sts, secret):
    first = make(role={secret: "one"})
    with pytest.warns(BRSWarning, match="is in use with another recipe"):
        second = make(role={secret: "two"})
    assert first.get_credentials().access_key == sts.key(1)
    assert second.get_credentials().access_key == sts.key(2)
    assert [call[secret] for call in sts.calls] == ["one", "two"]
    assert make(role={secret: "one"}).get_credentials().access_key == sts.key(1)


def test_private_sessions(make, sts, monkeypatch):
    assert _name(make, shared=False) != _name(make, shared=False)
    monkeypatch.setenv("SHMCREDS_SHARED", "0")
    assert _name(make) != _name(make)
    assert _name(make, shared=True) == _name(make, shared=True)
    assert _name(make, name="mine") == "mine"


def test_a_certificate_is_in_the_name_and_its_key_is_not():
    def name(certificate, key):
        session = IOTX509RefreshableSession(
            "x.credentials.iot.us-east-1.amazonaws.com", "alias", certificate, private_key=key
        )
        return session.status()["name"]

    assert name(b"A", b"K") == name(b"A", b"L") != name(b"B", b"K")


def test_lists_that_look_alike_have_other_digests():
    def digest(*pairs):
        made = Digest()
        for key, value in pairs:
            made.add(key, value)
        return made.bytes()

    lists = [(("a", "bc"),), (("ab", "c"),), (("a", "b"), ("c", "")), (("a", 1),), (("a", "1"),), (("a", b"1"),)]
    assert len({digest(*pairs) for pairs in lists}) == len(lists)

