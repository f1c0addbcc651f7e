"""The IoT method against a server on 127.0.0.1 with mutual TLS."""

from __future__ import annotations

import datetime
import http.server
import json
import ssl
import threading

import pytest
from certificates import Authority

from shmcreds import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSRequestError,
    BRSValidationError,
    IOTX509RefreshableSession,
    RefreshableSession,
)

ENDPOINT = "x.credentials.iot.us-east-1.amazonaws.com"


class IotServer:
    def __init__(self, authority, tmp_path):
        self.status, self.body, self.paths, self.things = 200, None, [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                server.paths.append(self.path)
                server.things.append(self.headers.get("x-amzn-iot-thingname"))
                body = json.dumps(server.body or server.given()).encode()
                self.send_response(server.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_): ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate, key = authority.issue("localhost")
        (tmp_path / "server.pem").write_bytes(certificate + key)
        context.load_cert_chain(tmp_path / "server.pem")
        context.load_verify_locations(cadata=authority.pem.decode())
        context.verify_mode = ssl.CERT_REQUIRED
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.endpoint = f"localhost:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def given(self):
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        return {
            "credentials": {
                "accessKeyId": "ASIAIOT", "secretAccessKey": "s", "sessionToken": "t",
                "expiration": expires.isoformat(),
            }
        }

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def server(authority, tmp_path):
    made = IotServer(authority, tmp_path)
    yield made
    made.close()


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
        ({"private_key": None}, "'private_key' is missing"),
        ({"role_alias": ""}, "'role_alias' must be"),
        ({"timeout": "x"}, "'timeout' must be"),
    ],
)
def test_arguments(given, problem):
    arguments = {"role_alias": "a", "certificate": b"c", "private_key": b"k", **given}
    with pytest.raises(BRSValidationError, match=problem):
        IOTX509RefreshableSession(ENDPOINT, **arguments)


@pytest.mark.parametrize("name", ["pkcs11", "duration_seconds"])
def test_what_this_version_does_not_do_is_named(name):
    with pytest.raises(BRSConfigurationError, match=f"'{name}' is not supported by this version"):
        IOTX509RefreshableSession(ENDPOINT, "a", b"c", private_key=b"k", **{name: {"a": 1}})
    with pytest.raises(BRSConfigurationError, match="mqtt.. is not supported"):
        IOTX509RefreshableSession(ENDPOINT, "a", b"c", private_key=b"k").mqtt(endpoint="x")
