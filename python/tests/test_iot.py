"""The IoT method against a server on 127.0.0.1 with mutual TLS."""

from __future__ import annotations

import pytest
from certificates import Authority
from iot_fixtures import authority, server  # noqa: F401 - fixtures

from shmcreds import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSRequestError,
    BRSValidationError,
    BRSWarning,
    IOTX509RefreshableSession,
    RefreshableSession,
)

ENDPOINT = "x.credentials.iot.us-east-1.amazonaws.com"


@pytest.fixture
def device(authority, server):
    certificate, key = authority.issue("device")

    def session(**given):
        arguments = dict(
            endpoint=server.endpoint, role_alias="my alias", certificate=certificate, private_key=key,
            ca=authority.pem, thing_name="thing-1",
        )
        return RefreshableSession(method="iot", **{**arguments, **given})

    return session


def test_a_set_comes(device, server):
    session = device()
    assert type(session) is IOTX509RefreshableSession
    assert session.get_credentials().get_frozen_credentials()[:3] == ("ASIAIOT", "s", "t")
    assert server.paths == ["/role-aliases/my%20alias/credentials"]
    assert server.things == ["thing-1"]
    assert session.source_identity() == {"method": "iot", "source": "my alias"}


def test_pem_from_files(device, authority, tmp_path):
    certificate, key = authority.issue("device")
    paths = {"certificate": certificate, "private_key": key, "ca": authority.pem}
    for name, pem in paths.items():
        (tmp_path / name).write_bytes(pem)
    session = device(**{name: str(tmp_path / name) for name in paths})
    assert session.get_credentials().access_key == "ASIAIOT"
    session = device(**{name: pem.decode() for name, pem in paths.items()})
    assert session.get_credentials().access_key == "ASIAIOT"


@pytest.mark.parametrize(("status", "kind"), [(403, "terminal"), (404, "misconfigured"), (429, "throttled"), (500, "transient")])
def test_a_refusal(device, server, status, kind):
    server.status, server.body = status, {"message": "Access Denied"}
    session = device()
    with pytest.raises(BRSRequestError, match="Access Denied") as raised:
        session.get_credentials().access_key
    assert raised.value.status_code == status
    assert session.status()["last_failure"]["kind"] == kind


def test_an_answer_without_credentials(device, server):
    server.body = {"x": 1}
    with pytest.raises(BRSCredentialError, match="an answer without credentials"):
        device().get_credentials().access_key


def test_a_server_that_is_not_trusted(device):
    with pytest.raises(BRSConnectionError, match="certificate verify failed"):
        device(ca=Authority().pem).get_credentials().access_key
    assert device(ca=None, verify_peer=False).get_credentials().access_key == "ASIAIOT"


def test_a_pem_that_is_none_is_told_at_the_fetch(device):
    session = device(private_key=b"not a key")
    with pytest.raises(BRSConfigurationError, match="no pair of PEM texts"):
        session.get_credentials().access_key


@pytest.mark.parametrize("endpoint", ["", "http://" + ENDPOINT, "foo bar", "evil.example.com", 5])
def test_endpoints(endpoint):
    with pytest.raises(BRSValidationError, match="'endpoint'"):
        IOTX509RefreshableSession(endpoint, "a", b"c", private_key=b"k")
    assert IOTX509RefreshableSession(f"https://{ENDPOINT}/", "a", b"c", private_key=b"k").endpoint == ENDPOINT


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"certificate": "/nope.pem"}, "'certificate' is neither a PEM text nor a file"),
        ({"certificate": 5}, "'certificate' is of type int"),
        ({"role_alias": ""}, "'role_alias' must be"),
        ({"timeout": "x"}, "'timeout' must be"),
    ],
)
def test_arguments(given, problem):
    arguments = {"role_alias": "a", "certificate": b"c", "private_key": b"k", **given}
    with pytest.raises(BRSValidationError, match=problem):
        IOTX509RefreshableSession(ENDPOINT, **arguments)


def test_the_key_is_given_once():
    for keys in ({}, {"private_key": b"k", "pkcs11": {"pkcs11_lib": __file__}}):
        with pytest.raises(BRSConfigurationError, match="one of 'private_key' and 'pkcs11'") as raised:
            IOTX509RefreshableSession(ENDPOINT, "a", b"c", **keys)
        assert raised.value.param == "private_key/pkcs11"


def test_a_data_endpoint_is_corrected():
    with pytest.warns(BRSWarning, match=r"data endpoint.*\*\*\*\.credentials\.iot\.us-east-1") as told:
        session = RefreshableSession("iot", endpoint="x-ats.iot.us-east-1.amazonaws.com", role_alias="a", certificate=b"c", private_key=b"k")
    assert session.endpoint == ENDPOINT and told[0].filename == __file__


def test_how_long_a_set_lives_is_asked_for(device, server):
    session = device(duration_seconds=900)
    assert session.get_credentials().access_key == "ASIAIOT"
    assert server.durations == ["900"]
    assert session.status()["name"] != device().status()["name"]
    assert device(duration_seconds=900, defer_refresh=False).status()["engine"] == "python"


@pytest.mark.parametrize("wrong", [0, -1, True, 900.0, "900"])
def test_a_duration_that_is_none(device, wrong):
    with pytest.raises(BRSValidationError, match="'duration_seconds' must be a whole number of seconds above 0"):
        device(duration_seconds=wrong)
