"""``method="iot"``: a role alias of AWS IoT Core, for a device with an X.509 certificate."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .exceptions import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSRequestError,
    BRSValidationError,
    BRSWarning,
)
from .session import RefreshableSession
from .set_name import Unhashable, digest_of

if TYPE_CHECKING:
    from .pkcs11 import HardwareKey
    from .types import PKCS11, Identity, TemporaryCredentials, Transport

__all__ = ["IOT_EXTRA_INSTALLED", "IOTX509RefreshableSession"]

#: Whether the extra ``iot`` is there: the AWS CRT and the AWS IoT SDK.
IOT_EXTRA_INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("awscrt", "awsiot"))

_ENDPOINT = re.compile(r"[a-z0-9]+\.credentials\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", re.IGNORECASE)
_DATA_ENDPOINT = re.compile(r"[a-z0-9]+-ats\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", re.IGNORECASE)
_TIMEOUT = 10.0
_LONGEST_ANSWER = 64 * 1024


class IOTX509RefreshableSession(RefreshableSession, registry_key="iot"):
    """A session with the credentials of a role alias.

    Args:
        endpoint: ``<id>.credentials.iot.<region>.amazonaws.com``, with or without ``https://``.
        role_alias: The alias of the role.
        certificate: The device's certificate: PEM text or bytes, or the path of a file.
        thing_name: The name of the thing, where the policy asks for it.
        private_key: The key of the certificate, in the same forms.
        pkcs11: Where the private key is, instead of ``private_key``: a PKCS#11 module, as :class:`PKCS11`. Needs the
            extra ``iot``.
        ca: Certificates of the authorities to trust, instead of the system's.
        verify_peer: False trusts any server. For tests alone.
        timeout: Seconds for the connection and for each answer.
        duration_seconds: How long a set lives, at most as long as the role alias says, which decides by default.
        awscrt_log_level: What the AWS CRT logs of the connections of :meth:`mqtt`, to standard error.
        **kwargs: See :class:`RefreshableSession`.
    """

    refresh_method = "iot-x509"

    def __init__(
        self,
        endpoint: str,
        role_alias: str,
        certificate: str | bytes,
        thing_name: str | None = None,
        private_key: str | bytes | None = None,
        pkcs11: PKCS11 | dict[str, Any] | None = None,
        ca: str | bytes | None = None,
        verify_peer: bool = True,
        timeout: float | None = None,
        duration_seconds: int | None = None,
        awscrt_log_level: Any = None,
        **kwargs: Any,
    ) -> None:
        self.endpoint = _host(endpoint)
        self.role_alias = _text("role_alias", role_alias)
        self.thing_name = thing_name
        self.verify_peer = verify_peer
        self.timeout = _TIMEOUT if timeout is None else _seconds(timeout)
        self.duration_seconds = None if duration_seconds is None else _duration(duration_seconds)
        self._awscrt_log_level = awscrt_log_level
        self._certificate = _pem("certificate", certificate)
        if (private_key is None) == (pkcs11 is None):
            raise _one_key("The session")
        self._private_key = None if private_key is None else _pem("private_key", private_key)
        self._hardware_key = None if pkcs11 is None else _hardware_key(pkcs11)
        self._ca = None if ca is None else _pem("ca", ca)
        super().__init__(**kwargs)

    def _inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._hardware_key is not None:
            raise Unhashable("pkcs11")
        ca = None if self._ca is None else digest_of(self._ca)
        public: dict[str, Any] = {
            "endpoint": self.endpoint,
            "role_alias": self.role_alias,
            "thing_name": self.thing_name,
            "certificate": digest_of(self._certificate),
            "trust": [ca, bool(self.verify_peer)],
        }
        if self.duration_seconds is not None:
            public["duration"] = self.duration_seconds
        return public, {}

    def _native_inputs(self) -> tuple[str, dict[str, Any]]:
        from . import native_source

        self._check_fetches_itself(IOTX509RefreshableSession)
        return "thing", native_source.thing_of(self)

    def _get_credentials(self) -> TemporaryCredentials:
        status, body = self._ask()
        try:
            answer = json.loads(body)
        except ValueError:
            answer = {}
        if status != 200:
            message = answer.get("message") if isinstance(answer, dict) else None
            raise BRSRequestError(
                f"AWS IoT refused to give credentials for the role alias {self.role_alias!r}: "
                f"{message or 'it gave no reason'}.",
                status_code=status,
            )
        try:
            given = answer["credentials"]
            return {
                "access_key": given["accessKeyId"],
                "secret_key": given["secretAccessKey"],
                "token": given["sessionToken"],
                "expiry_time": given["expiration"],
            }
        except (KeyError, TypeError):
            raise BRSCredentialError("AWS IoT gave an answer without credentials.") from None

    def _ask(self) -> tuple[int, bytes]:
        alias = urllib.parse.quote(self.role_alias, safe="")
        path = f"/role-aliases/{alias}/credentials"
        headers = {} if self.thing_name is None else {"x-amzn-iot-thingname": self.thing_name}
        if self.duration_seconds is not None:
            headers["x-amzn-iot-credential-duration-seconds"] = str(self.duration_seconds)
        if self._hardware_key is not None:
            return self._hardware_key.ask(self.endpoint, path, headers, **self._tls())
        host, _, port = self.endpoint.partition(":")
        connection = http.client.HTTPSConnection(
            host, int(port or 443), timeout=self.timeout, context=self._context()
        )
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise BRSConnectionError(
                f"AWS IoT at {self.endpoint} cannot be asked: {type(error).__name__}: {error}."
            ) from error
        finally:
            connection.close()

    def _tls(self) -> dict[str, Any]:
        """What another process needs to know of the connection."""
        return {
            "certificate": _ascii(self._certificate),
            "ca": None if self._ca is None else _ascii(self._ca),
            "verify_peer": bool(self.verify_peer),
            "timeout": self.timeout,
        }

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=_ascii(self._ca))
        if not self.verify_peer:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            with _as_file(self._certificate) as certificate, _as_file(self._private_key or b"") as key:
                # A password would be asked for on the terminal.
                context.load_cert_chain(certificate, key, password=_no_password)
        except ssl.SSLError as error:
            raise BRSConfigurationError(
                f"'certificate' and 'private_key' are no pair of PEM texts: {error.reason}.",
                param="certificate",
            ) from None
        return context

    def get_identity(self) -> Identity:
        """Whose the shared credentials are, as STS says; and by which method they came."""
        return {**super().get_identity(), "method": "iot", "source": self.role_alias}

    def source_identity(self) -> Identity:
        """The method and the role alias."""
        return {"method": "iot", "source": self.role_alias}

    def mqtt(
        self,
        *,
        endpoint: str,
        client_id: str,
        transport: Transport = "x509",
        certificate: str | bytes | None = None,
        private_key: str | bytes | None = None,
        ca: str | bytes | None = None,
        pkcs11: PKCS11 | dict[str, Any] | None = None,
        region: str | None = None,
        keep_alive_secs: int = 60,
        clean_start: bool = True,
        port: int | None = None,
        use_alpn: bool = False,
    ) -> Any:
        """An ``awscrt.mqtt.Connection``, which is not yet connected. Needs the extra ``iot``.

        Make it after forks: it has threads. What is not given is that of the session.

        Args:
            endpoint: The data endpoint, ``<id>-ats.iot.<region>.amazonaws.com``.
            client_id: The name of this client.
            transport: ``"x509"``: the certificate authenticates. ``"ws"``: the credentials do, over WebSockets.
            certificate: As in the session.
            private_key: As in the session.
            ca: As in the session.
            pkcs11: As in the session.
            region: The Region of the endpoint, for ``"ws"``.
            keep_alive_secs: Seconds between two signs of life.
            clean_start: False goes on with the subscriptions that the client had.
            port: 8883 by default; 443 with ``use_alpn`` and for ``"ws"``.
            use_alpn: MQTT on the port of HTTPS.

        Raises:
            BRSValidationError: an argument breaks a rule.
            BRSConfigurationError: arguments do not fit together, or the extra is missing.
        """
        from . import mqtt

        mqtt.check_transport(transport)
        authority = self._ca if ca is None else _pem("ca", ca)
        options: dict[str, Any] = {
            "endpoint": _text("endpoint", endpoint),
            "client_id": _text("client_id", client_id),
            "keep_alive_secs": keep_alive_secs,
            "clean_session": clean_start,
            "port": port,
            "ca_bytes": authority,
        }
        if self._awscrt_log_level:
            mqtt.log(self._awscrt_log_level)
        if transport == "ws":
            return mqtt.by_credentials(self._credentials, region=region or self.region_name, **options)
        pem = self._certificate if certificate is None else _pem("certificate", certificate)
        key, module = self._mqtt_key(private_key, pkcs11)
        if (key is None) == (module is None):
            raise _one_key("mqtt(transport='x509')")
        return mqtt.by_certificate(pem, key, module, use_alpn=use_alpn, **options)

    def _mqtt_key(self, private_key: Any, pkcs11: Any) -> tuple[bytes | None, PKCS11 | None]:
        """The key that is given, else that of the session."""
        if private_key is None and pkcs11 is None:
            return self._private_key, None if self._hardware_key is None else self._hardware_key.module
        from .pkcs11 import checked

        key = None if private_key is None else _pem("private_key", private_key)
        return key, None if pkcs11 is None else checked(pkcs11)


def _one_key(what: str) -> BRSConfigurationError:
    """The error where there is no private key, or two."""
    return BRSConfigurationError(
        f"{what} needs the private key of the certificate: give one of 'private_key' and 'pkcs11', and not both.",
        param="private_key/pkcs11",
    )


def _hardware_key(given: Any) -> HardwareKey:
    from .pkcs11 import HardwareKey, checked

    module = checked(given)
    if importlib.util.find_spec("awscrt") is None:
        raise BRSConfigurationError(
            "'pkcs11' needs the AWS CRT, which is not installed. Install it by `pip install shmcreds[iot]`.",
            param="pkcs11",
        )
    return HardwareKey(module)


def _host(endpoint: Any) -> str:
    text = _text("endpoint", endpoint)
    if "://" in text:
        parts = urllib.parse.urlsplit(text)
        if parts.scheme != "https":
            raise _no_endpoint(text)
        text = parts.netloc
    host, colon, port = text.strip("/").partition(":")
    if _DATA_ENDPOINT.fullmatch(host):
        host = host.replace("-ats.iot.", ".credentials.iot.", 1)
        BRSWarning.warn(
            "'endpoint' is the data endpoint of AWS IoT; the endpoint of its credentials provider is used: "
            f"***{host[host.index('.') :]}.",
            stacklevel=4,
        )
    if not (_ENDPOINT.fullmatch(host) or host == "localhost") or (colon and not port.isdigit()):
        raise _no_endpoint(text)
    return f"{host}{colon}{port}"


def _no_endpoint(text: str) -> BRSValidationError:
    return BRSValidationError(
        "'endpoint' is no endpoint of the credentials provider: <id>.credentials.iot.<region>.amazonaws.com.",
        param="endpoint",
        value=text,
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BRSValidationError(f"{name!r} must be a text that is not empty.", param=name)
    return value


def _ascii(pem: bytes) -> str:
    return pem.decode("ascii", "replace")


def _duration(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or given <= 0:
        raise BRSValidationError(
            "'duration_seconds' must be a whole number of seconds above 0.", param="duration_seconds"
        )
    return given


def _seconds(timeout: Any) -> float:
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
        raise BRSValidationError("'timeout' must be a number of seconds above 0.", param="timeout")
    return float(timeout)


def _pem(name: str, given: Any) -> bytes:
    """The PEM, read from the file where a path is given. It is parsed when it is used."""
    if isinstance(given, bytes):
        return given
    if not isinstance(given, str):
        raise BRSValidationError(
            f"{name!r} is of type {type(given).__name__}; it must be a PEM text or the path of a file.", param=name
        )
    if "-----BEGIN" in given:
        return given.encode()
    try:
        return Path(given).expanduser().read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise BRSValidationError(
            f"{name!r} is neither a PEM text nor a file that can be read: {reason}.", param=name
        ) from None


@contextlib.contextmanager
def _as_file(pem: bytes) -> Iterator[str]:
    """A path for code that reads files alone. The bytes stay in memory."""
    if not hasattr(os, "memfd_create"):
        raise BRSConfigurationError(
            "This platform has no files in memory, and a private key is written to no disk here. Use "
            "method='iot' on Linux.",
            param="private_key",
        )
    descriptor = os.memfd_create("shmcreds-pem")
    try:
        os.write(descriptor, pem)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _no_password() -> str:
    return ""
