"""The extra ``iot``: private keys in a PKCS#11 module (SoftHSM), and MQTT connections."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from certificates import Authority
from iot_fixtures import authority, server  # noqa: F401 - fixtures
from local_mqtt import MqttBroker
from support import run

from shmcreds import (
    IOT_EXTRA_INSTALLED,
    BRSConfigurationError,
    BRSConnectionError,
    BRSValidationError,
    RefreshableSession,
    pkcs11,
)

PIN = "5678"
DATA = "x-ats.iot.us-east-1.amazonaws.com"


@pytest.fixture(scope="module")
def device(authority):
    """A certificate and its key."""
    return authority.issue("device")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory, device):
    """The configuration of a SoftHSM that has the key."""
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}\nobjectstore.backend = file\n")
    (folder / "key.pem").write_bytes(device[1])
    for command in (
        ["--init-token", "--free", "--label", "device", "--so-pin", "1234", "--pin", PIN],
        ["--import", str(folder / "key.pem"), "--token", "device", "--label", "key", "--id", "01", "--pin", PIN],
    ):
        subprocess.run(
            ["softhsm2-util", *command], env={"SOFTHSM2_CONF": str(folder / "softhsm2.conf"), "PATH": "/usr/bin"},
            check=True, capture_output=True,
        )  # fmt: skip
    return folder / "softhsm2.conf"


@pytest.fixture
def module(tokens, monkeypatch):
    monkeypatch.setenv("SOFTHSM2_CONF", str(tokens))
    library = next(Path("/usr/lib").glob("**/softhsm/libsofthsm2.so"))
    return {"pkcs11_lib": str(library.resolve()), "user_pin": PIN, "token_label": "device", "private_key_label": "key"}


@pytest.fixture
def arguments(authority, device, server, tmp_path):
    """Of a session with its key in the module, where `pkcs11` is added."""
    paths = {"certificate": device[0], "ca": authority.pem}
    for name, pem in paths.items():
        (tmp_path / name).write_bytes(pem)
    files = {name: str(tmp_path / name) for name in paths}
    return {"endpoint": server.endpoint, "role_alias": "my alias", "thing_name": "thing-1", **files}


def test_the_extra_is_installed():
    assert IOT_EXTRA_INSTALLED is True


@pytest.mark.hsm
def test_a_set_for_a_key_that_never_leaves_its_module(arguments, module, server):
    session = RefreshableSession(method="iot", pkcs11=module, duration_seconds=900, **arguments)
    assert session.get_credentials().get_frozen_credentials()[:3] == ("ASIAIOT", "s", "t")
    assert (server.paths, server.things) == (["/role-aliases/my%20alias/credentials"], ["thing-1"])
    assert server.durations == ["900"]
    assert session.refresh()["access_key"] == "ASIAIOT" and len(server.paths) == 2
    # Another process finds it by no name, and the PIN is in no text.
    assert session.status()["name"] != RefreshableSession(method="iot", pkcs11=module, **arguments).status()["name"]
    assert PIN not in repr(session) + repr(session.status()) + repr(session._hardware_key)


@pytest.mark.hsm
@pytest.mark.host
def test_forked_workers_share_a_set_and_have_neither_threads_nor_the_module(arguments, module, server):
    told = run("hardware_key.py", 8, json.dumps({**arguments, "pkcs11": module}))
    assert told == [{"key": "ASIAIOT", "threads": [], "module": False}] * 8
    assert len(server.paths) == 1


@pytest.mark.hsm
@pytest.mark.host
def test_a_wrong_pin_is_told_to_the_module_once(arguments, module, server):
    # A token locks itself after a few of them. So neither a later call nor another worker tries again.
    told = run("hardware_key.py", 8, json.dumps({**arguments, "pkcs11": {**module, "user_pin": "9999"}}))
    assert len(told) == 8 and all("refuses 'user_pin'" in worker["key"] for worker in told)
    assert server.paths == []


@pytest.mark.hsm
def test_a_wrong_pin_is_not_tried_again_after_the_back_off(arguments, module, monkeypatch):
    session = RefreshableSession(method="iot", pkcs11={**module, "user_pin": "9999"}, **arguments)
    with pytest.raises(BRSConfigurationError, match="refuses 'user_pin'") as raised:
        session._get_credentials()
    assert raised.value.param == "user_pin" and "9999" not in str(raised.value)
    monkeypatch.setattr(pkcs11, "_run", lambda *_: pytest.fail("the module was asked again"))
    with pytest.raises(BRSConfigurationError, match="refuses 'user_pin'"):
        session._get_credentials()


@pytest.mark.hsm
@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        ({"token_label": "other"}, BRSConfigurationError, "PKCS#11 module cannot be used: .*TOKEN"),
        ({"private_key_label": "other"}, BRSConfigurationError, "PKCS#11 module cannot be used: .*KEY"),
        ({"pkcs11_lib": "/etc/hostname"}, BRSConfigurationError, "PKCS#11 module cannot be used"),
    ],
)
def test_a_module_that_does_not_fit(arguments, module, server, wrong, error, match):
    session = RefreshableSession(method="iot", pkcs11={**module, **wrong}, **arguments)
    with pytest.raises(error, match=match):
        session.get_credentials().access_key
    assert server.paths == []


@pytest.mark.hsm
def test_a_server_that_is_not_trusted(arguments, module, server):
    session = RefreshableSession(method="iot", pkcs11=module, timeout=1, **{**arguments, "ca": Authority().pem})
    with pytest.raises(BRSConnectionError, match="AWS IoT at .* cannot be asked: .*its certificate is not trusted"):
        session.get_credentials().access_key
    assert server.paths == []
    session = RefreshableSession(method="iot", pkcs11=module, verify_peer=False, **{**arguments, "ca": Authority().pem})
    assert session.get_credentials().access_key == "ASIAIOT"


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ("module.so", BRSValidationError, "'pkcs11' is of type str"),
        ({"user_pin": "1"}, BRSConfigurationError, "has no 'pkcs11_lib'"),
        ({"pkcs11_lib": "/nope.so"}, BRSValidationError, "'pkcs11_lib' in 'pkcs11' is no file"),
        ({"pkcs11_lib": __file__, "user_pin": 1234}, BRSValidationError, "'user_pin' in 'pkcs11' is of type int"),
        ({"pkcs11_lib": __file__, "slot_id": "1"}, BRSValidationError, "'slot_id' in 'pkcs11' is of type str"),
        ({"pkcs11_lib": __file__, "pin": "1"}, BRSValidationError, "'pkcs11' has 'pin'; it can have pkcs11_lib, user_pin"),
    ],
)
def test_what_is_no_module(arguments, given, error, match):
    with pytest.raises(error, match=match):
        RefreshableSession(method="iot", pkcs11=given, **arguments)


def test_without_the_extra(arguments, device, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "awscrt" else find(name))
    monkeypatch.setitem(sys.modules, "awsiot", None)
    with pytest.raises(BRSConfigurationError, match="'pkcs11' needs the AWS CRT.*pip install shmcreds.iot."):
        RefreshableSession(method="iot", pkcs11={"pkcs11_lib": __file__}, **arguments)
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    assert session.get_credentials().access_key == "ASIAIOT"
    with pytest.raises(BRSConfigurationError, match="mqtt.. needs the AWS IoT SDK.*pip install shmcreds.iot."):
        session.mqtt(endpoint=DATA, client_id="one")


@pytest.fixture
def broker(authority, tmp_path):
    with MqttBroker(authority, tmp_path) as made:
        yield made


def _connect(connection):
    connection.connect().result(20)
    connection.disconnect().result(20)


def test_mqtt_with_the_certificate(arguments, device, broker):
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    _connect(session.mqtt(endpoint="localhost", client_id="client-1", port=broker.port))
    assert broker.certificates == ["device"]
    assert b"MQTT" in broker.connects[0] and b"client-1" in broker.connects[0]


@pytest.mark.hsm
def test_mqtt_with_a_key_in_the_module(arguments, device, module, broker):
    session = RefreshableSession(method="iot", pkcs11=module, **arguments)
    _connect(session.mqtt(endpoint="localhost", client_id="client-2", port=broker.port))
    # The connection can have another key than the session.
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    _connect(session.mqtt(endpoint="localhost", client_id="client-3", port=broker.port, pkcs11=module))
    assert broker.certificates == ["device", "device"]


def test_mqtt_over_websockets_is_signed_with_the_set(arguments, device, broker):
    session = RefreshableSession(method="iot", private_key=device[1], region_name="eu-west-1", **arguments)
    _connect(session.mqtt(endpoint="localhost", client_id="client-4", port=broker.port, transport="ws"))
    (path,) = broker.paths
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)
    assert query["X-Amz-Credential"][0].split("/")[0] == "ASIAIOT"
    assert query["X-Amz-Credential"][0].split("/")[2:4] == ["eu-west-1", "iotdevicegateway"]
    assert query["X-Amz-Security-Token"] == ["t"]
    assert broker.certificates == [None] and b"client-4" in broker.connects[0]


@pytest.mark.hsm
def test_the_example(arguments, module, server, broker):
    example = Path(__file__).parents[1] / "examples/iot_device.py"
    broker_at = f"localhost:{broker.port}"
    given = [arguments["endpoint"], broker_at, arguments["certificate"], arguments["ca"], module["pkcs11_lib"]]
    done = subprocess.run([sys.executable, str(example), *given], capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "ASIAIOT\n")
    assert broker.certificates == ["device"]


def test_arguments_of_mqtt(arguments, device, monkeypatch):
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    both = {"private_key": device[1], "pkcs11": {"pkcs11_lib": __file__}}
    for given, error, match in (
        ({"transport": "tcp"}, BRSValidationError, "'transport' is 'tcp'; it must be 'x509' or 'ws'"),
        ({"endpoint": ""}, BRSValidationError, "'endpoint' must be"),
        ({"client_id": ""}, BRSValidationError, "'client_id' must be"),
        ({"certificate": "/nope"}, BRSValidationError, "'certificate' is neither"),
        (both, BRSConfigurationError, "one of 'private_key' and 'pkcs11'"),
    ):
        with pytest.raises(error, match=match):
            session.mqtt(**{"endpoint": DATA, "client_id": "one", **given})
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    with pytest.raises(BRSConfigurationError, match="needs a Region"):
        session.mqtt(endpoint=DATA, client_id="one", transport="ws")


@pytest.mark.parametrize(("given", "port"), [({}, 8883), ({"use_alpn": True}, 443), ({"transport": "ws"}, 443), ({"port": 99}, 99)])
def test_ports_of_mqtt(arguments, device, given, port):
    session = RefreshableSession(method="iot", private_key=device[1], **arguments)
    connection = session.mqtt(endpoint=DATA, client_id="one", keep_alive_secs=7, clean_start=False, **given)
    assert (connection.host_name, connection.port, connection.client_id) == (DATA, port, "one")
    assert (connection.keep_alive_secs, connection.clean_session) == (7, False)
