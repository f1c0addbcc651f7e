from __future__ import annotations

import subprocess
import sys

import pytest
from local_sts import ROLE

from shmcreds import BRSConfigurationError, BRSValidationError, BRSWarning, STSRefreshableSession, native_module

SERIAL = {"SerialNumber": "arn:aws:iam::123456789012:mfa/me"}


def _code(make, sts, provider, **kwargs):
    session = make(role=SERIAL, mfa_token_provider=provider, **kwargs)
    session.get_credentials().access_key
    return sts.calls[-1]["TokenCode"]


def test_a_function_is_asked_at_each_fetch(make, sts):
    codes = iter(["111111", "222222"])
    session = make(role=SERIAL, mfa_token_provider=lambda: next(codes))
    session.refresh()
    session.refresh()
    assert [call["TokenCode"] for call in sts.calls] == ["111111", "222222"]


def test_arguments_of_the_function(make, sts):
    assert _code(make, sts, lambda a: a, mfa_token_provider_kwargs={"a": "654321"}) == "654321"


@pytest.mark.parametrize("given", ["abc", 123456, None, "code 123456"])
def test_what_is_no_code(make, sts, given):
    with pytest.raises(BRSValidationError, match="'TokenCode'"):
        _code(make, sts, lambda: given)
    assert sts.calls == []


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("echo 111111", "111111"),
        (["echo", "your codes: 222222, 333333."], "333333"),
        ("sh -c 'echo 1234567; echo 444444'", "444444"),
    ],
)
def test_a_command(make, sts, command, code):
    assert _code(make, sts, command) == code


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("", "is empty"),
        ([], "is empty"),
        ("/nope/x", "is not found"),
        (["sh", "-c", "echo 123456; exit 3"], "ended with status 3"),
        (["sh", "-c", "echo 123456 >&2"], "printed no 6 digits"),
        (["sh", "-c", "echo 1234567"], "printed no 6 digits"),
    ],
)
def test_commands_that_give_no_code(make, sts, command, problem):
    with pytest.raises(BRSConfigurationError, match=problem) as raised:
        _code(make, sts, command)
    assert raised.value.param == "mfa_token_provider"
    assert "123456" not in str(raised.value)


def test_a_command_that_takes_too_long(make, sts):
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(BRSConfigurationError, match="took longer than 0.2 s"):
        _code(make, sts, command, mfa_token_provider_kwargs={"timeout": 0.2})


def test_a_command_has_30_seconds(make, sts, monkeypatch):
    limits, run = [], subprocess.run
    monkeypatch.setattr(subprocess, "run", lambda *given, **more: limits.append(more["timeout"]) or run(*given, **more))
    assert _code(make, sts, "echo 123456") == "123456"
    assert limits == [30]


def test_a_subclass_that_asks_the_command_in_its_own_way(sts):
    class Mine(STSRefreshableSession):
        def _mfa_token_from_command(self, command, **kwargs):
            assert (command, kwargs) == ("ask me", {"timeout": 5})
            return "987654"

    given = ({"RoleArn": ROLE, **SERIAL}, sts.client, "ask me", {"timeout": 5})
    session = Mine(*given)
    assert session.get_credentials().access_key == sts.key(1)
    assert sts.calls[0]["TokenCode"] == "987654"
    # The Rust library would run the command.
    session = Mine(*given, defer_refresh=False, name="mfa-of-a-subclass")
    assert (session.status()["engine"], session.get_credentials().access_key) == ("python", sts.key(2))
    if not native_module.absence():
        with pytest.raises(BRSConfigurationError, match="Mine._mfa_token_from_command is code of this program"):
            Mine(*given, engine="native")


@pytest.mark.parametrize("name", ["shell", "executable", "preexec_fn", "stdout", "stderr"])
def test_refused_arguments(make, name):
    with pytest.raises(BRSConfigurationError, match=f"'{name}' in 'mfa_token_provider_kwargs'"):
        make(role=SERIAL, mfa_token_provider="echo 1", mfa_token_provider_kwargs={name: "x"})


def test_arguments_of_the_command(make, sts):
    code = _code(make, sts, ["sh", "-c", "echo $CODE"], mfa_token_provider_kwargs={"env": {"CODE": "777777"}})
    assert code == "777777"
    with pytest.raises(BRSConfigurationError, match="bogus"):
        _code(make, sts, "echo 123456", mfa_token_provider_kwargs={"bogus": 1})


def test_what_belongs_together(make):
    with pytest.raises(BRSConfigurationError, match="needs 'SerialNumber'"):
        make(mfa_token_provider=lambda: "123456")
    for alone in (SERIAL, {"TokenCode": "123456"}):
        with pytest.raises(BRSConfigurationError, match="'SerialNumber' and 'TokenCode' belong together"):
            make(role=alone)
    with pytest.raises(BRSValidationError, match="'mfa_token_provider' is of type int"):
        make(role=SERIAL, mfa_token_provider=5)
    with pytest.warns(BRSWarning, match="'TokenCode' is ignored"):
        make(role={**SERIAL, "TokenCode": "123456"}, mfa_token_provider=lambda: "654321")


def test_a_fixed_code_is_used_once(make, sts):
    session = make(role={**SERIAL, "TokenCode": "123456"})
    assert session.get_credentials().access_key == sts.key(1)
    with pytest.raises(BRSConfigurationError, match="STS takes each code once"):
        session.refresh()
    assert len(sts.calls) == 1
    assert session.get_credentials().access_key == sts.key(1)
