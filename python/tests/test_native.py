"""Sets that the Rust library fetches: what is translated, and sessions of one name with either engine."""

from __future__ import annotations

import sys
import threading

import botocore.exceptions
import pytest
from botocore.config import Config
from botocore.credentials import ReadOnlyCredentials
from certificates import Authority
from local_iot import IotServer
from local_sts import ACCOUNT, ROLE, Failure
from waiting import until

from shmcreds import BRSConfigurationError, CustomRefreshableSession, STSRefreshableSession

pytestmark = pytest.mark.host


@pytest.fixture
def native(make):
    return lambda **given: make(engine="native", **given)


def _inputs(session):
    return session._native_inputs()[1]


def test_a_set_comes_and_another(native, sts):
    session = native()
    frozen = session.get_credentials().get_frozen_credentials()
    assert frozen == (sts.key(1), f"secret-of-{sts.key(1)}", f"token-of-{sts.key(1)}", ACCOUNT)
    assert session.refresh()["access_key"] == session.get_credentials().access_key == sts.key(2)
    assert (session.status()["engine"], session.status()["source_calls"]) == ("native", 2)
    assert set(sts.callers) == {"AKIABASE"}


def test_each_input_is_sent(make, sts):
    arn = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    role = {
        "RoleSessionName": "name-1", "DurationSeconds": 900, "ExternalId": "tenant-42", "Policy": "{}",
        "PolicyArns": [{"arn": arn}], "Tags": [{"Key": "team", "Value": "a"}], "TransitiveTagKeys": ["team"],
        "SourceIdentity": "alice", "SerialNumber": "123456789",
        "ProvidedContexts": [{"ProviderArn": "arn:aws:iam::aws:contextProvider/x", "ContextAssertion": "assertion"}],
    }  # fmt: skip
    client = {"aws_access_key_id": "AKIAOTHER", "aws_secret_access_key": "s"}
    inputs = []
    for engine in ("native", "python"):
        make(engine=engine, role=role, client=client, mfa_token_provider="echo 123456").refresh()
        inputs.append({key: value for key, value in sts.calls[-1].items() if key != "Version"})
    assert inputs[0] == inputs[1]
    assert inputs[0]["TokenCode"] == "123456" and inputs[0]["ExternalId"] == "tenant-42"
    assert sts.callers == ["AKIAOTHER"] * 2


def test_both_engines_share_one_set(make, native, sts):
    first, second = native(role={"ExternalId": "tenant-42"}), make(role={"ExternalId": "tenant-42"})
    assert first.get_credentials().access_key == second.get_credentials().access_key == sts.key(1)
    assert second.refresh()["access_key"] == first.get_credentials().access_key == sts.key(2)
    assert first.refresh()["access_key"] == second.get_credentials().access_key == sts.key(3)
    assert first.status()["name"] == second.status()["name"]
    assert [session.status()["engine"] for session in (first, second)] == ["native", "python"]


def test_a_failure_is_the_same_exception(make, native, sts):
    sts.failure = Failure("AccessDenied", "not you")
    told = []
    for session in (native(), native(), make()):
        with pytest.raises(botocore.exceptions.ClientError) as raised:
            session.get_credentials().access_key
        told.append((raised.value.operation_name, raised.value.response["Error"], raised.value.response["ResponseMetadata"]["RequestId"]))
    assert told == [("AssumeRole", {"Code": "AccessDenied", "Message": "not you"}, "req-failed")] * 3
    assert len(sts.calls) == 1


def test_a_failure_while_a_set_is_valid_is_no_error(native, sts):
    session = native()
    assert session.get_credentials().access_key == sts.key(1)
    sts.failure = Failure("AccessDenied")
    with pytest.raises(botocore.exceptions.ClientError):
        session.refresh()
    assert session.get_credentials().access_key == sts.key(1)


def test_a_rejected_set_is_replaced(native, sts):
    session = native()
    key = session.get_credentials().access_key
    assert session._obtainer.reject(key) is True
    assert session._obtainer.reject(key) is False
    until(lambda: session.get_credentials().access_key == sts.key(2))


def test_1000_reads_of_a_short_set_are_one_call(native, sts):
    sts.lifetime = 600
    credentials = native().get_credentials()
    assert {credentials.get_frozen_credentials().access_key for _ in range(1000)} == {sts.key(1)}
    assert len(sts.calls) == 1


def test_threads_see_no_mixed_set(native, sts):
    session, stop, wrong = native(), threading.Event(), []

    def read():
        while not stop.is_set():
            frozen = session.get_credentials().get_frozen_credentials()
            if frozen[1:3] != (f"secret-of-{frozen.access_key}", f"token-of-{frozen.access_key}"):
                wrong.append(frozen)

    first = session.get_credentials().access_key
    threads = [threading.Thread(target=read, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    keys = [first, *(session.refresh()["access_key"] for _ in range(30))]
    stop.set()
    for thread in threads:
        thread.join(20)
    assert wrong == []
    assert keys == [sts.key(number) for number in range(1, 32)]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"mfa_token_provider": lambda: "123456", "role": {"SerialNumber": "123456789"}}, "is a function"),
        ({"mfa_token_provider": "echo 123456", "mfa_token_provider_kwargs": {"cwd": "/"},
          "role": {"SerialNumber": "123456789"}}, "more than 'timeout'"),
        ({"role": {"SerialNumber": "123456789", "TokenCode": "123456"}}, "'TokenCode' is good for one call"),
        ({"client": {"verify": False}}, "turns TLS or its check off"),
        ({"client": {"config": Config(client_cert="/x.pem")}}, "'config' has client_cert"),
        ({"client": {"config": Config(proxies={"http": "http://a:1", "https": "http://b:1"})}}, "several proxies"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_named(make, given, reason):
    with pytest.raises(BRSConfigurationError, match=f"engine='native' lets the Rust library.*{reason}"):
        make(engine="native", **given)
    assert make(**given).status()["engine"] == "python"


def test_code_of_the_program_stays_with_botocore(sts):
    class Own(STSRefreshableSession):
        def _get_credentials(self):
            raise AssertionError

    for cls, given in ((Own, {"assume_role_kwargs": {"RoleArn": ROLE}}), (CustomRefreshableSession, {"custom_credentials_method": dict})):
        with pytest.raises(BRSConfigurationError, match="'_get_credentials' of its own|code of this program"):
            cls(engine="native", **given)


def test_the_client_is_translated(make):
    config = Config(connect_timeout=2, read_timeout=3, retries={"max_attempts": 4}, proxies={"https": "http://p:1"})
    inputs = _inputs(make(client={"config": config, "verify": "/ca.pem", "region_name": "eu-west-1"}))
    expected = {
        "connect_timeout": 2, "read_timeout": 3, "max_attempts": 5, "proxy": "http://p:1", "ca_bundle": "/ca.pem",
        "region": "eu-west-1", "keys": None, "profile": None,
    }  # fmt: skip
    assert {key: inputs[key] for key in expected} == expected


@pytest.mark.parametrize("how", ["argument", "AWS_PROFILE", "AWS_DEFAULT_PROFILE"])
def test_the_profile_that_assumes_the_role(make, sts, tmp_path, monkeypatch, how):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[ONE]\naws_access_key_id = AKIAONE\naws_secret_access_key = s\n")
    if how != "argument":
        monkeypatch.setenv(how, "ONE")
    given = {"profile_name": "ONE"} if how == "argument" else {}
    for engine in ("native", "python"):
        make(engine=engine, **given).refresh()
    assert sts.callers == ["AKIAONE", "AKIAONE"]


def test_a_profile_that_asks_on_the_terminal_is_not_translated(make, tmp_path, monkeypatch):
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/config").write_text(f"[profile p]\nrole_arn = {ROLE}\nsource_profile = q\nmfa_serial = 123456789\n")
    with pytest.raises(BRSConfigurationError, match="a code on the terminal"):
        make(engine="native", profile_name="p")


def test_an_iot_session(tmp_path):
    authority = Authority()
    server = IotServer(authority, tmp_path)
    certificate, key = authority.issue("device")
    from shmcreds import IOTX509RefreshableSession

    try:
        session = IOTX509RefreshableSession(
            server.endpoint, "alias", certificate, private_key=key, ca=authority.pem, thing_name="thing-1", engine="native"
        )
        assert session.get_credentials().access_key == "ASIAIOT"
        assert (server.paths, server.things) == (["/role-aliases/alias/credentials"], ["thing-1"])
        assert session.status()["engine"] == "native"
    finally:
        server.close()


def test_moto_in_process_keeps_eager_sessions_with_botocore(make):
    import moto

    with moto.mock_aws():
        from shmcreds import RefreshableSession

        session = RefreshableSession(assume_role_kwargs={"RoleArn": ROLE}, defer_refresh=False)
        assert session.status()["engine"] == "python"


def test_arguments_that_do_not_fit(make):
    with pytest.raises(BRSConfigurationError, match="sealed=True needs defer_refresh=False"):
        make(sealed=True)
    with pytest.raises(BRSConfigurationError, match="sealed=True and engine='python' do not fit"):
        make(sealed=True, engine="python", defer_refresh=False)


@pytest.mark.parametrize("method", ["fresh", "look"])
def test_a_read_runs_no_code_of_python(make, sts, method):
    # At the end of the interpreter CPython cancels daemon threads that run some. The native module must not be below it.
    make().get_credentials().access_key
    store, ran = make()._obtainer.store._store, []
    sys.setprofile(lambda frame, event, _: event == "call" and ran.append(frame.f_code.co_name))
    try:
        found = getattr(store, method)()
    finally:
        sys.setprofile(None)
    frozen = found if method == "fresh" else found[0]
    assert ran == []
    assert type(frozen) is ReadOnlyCredentials
    assert frozen == (sts.key(1), f"secret-of-{sts.key(1)}", f"token-of-{sts.key(1)}", ACCOUNT)


def test_no_secret_in_a_text(native, caplog):
    session = native(client={"aws_access_key_id": "AKIAX", "aws_secret_access_key": "hush-hush"}, role={"ExternalId": "guess-me"})
    session.get_credentials().access_key
    for text in (repr(session), repr(session.status()), session._obtainer.store._store.describe(), caplog.text):
        assert not any(secret in text for secret in ("hush-hush", "guess-me", "secret-of-", "token-of-"))
