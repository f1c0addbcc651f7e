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
from typing import TYPE_CHECKING, Any, NoReturn

from .exceptions import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSRequestError,
    BRSValidationError,
)
from .recipe import digest_of
from .session import RefreshableSession

if TYPE_CHECKING:
    from .types import PKCS11, Identity, TemporaryCredentials

__all__ = ["IOT_EXTRA_INSTALLED", "IOTX509RefreshableSession"]

#: Whether the AWS IoT SDK is there, which the extra ``iot`` installs.
IOT_EXTRA_INSTALLED = importlib.util.find_spec("awsiot") is not None

_ENDPOINT = re.compile(r"[a-z0-9]+\.credentials\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?", re.IGNORECASE)
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
        pkcs11: Not supported by this version.
        ca: Certificates of the authorities to trust, instead of the system's.
        verify_peer: False trusts any server. For tests alone.
        timeout: Seconds for the connection and for each answer.
        duration_seconds: Not supported by this version. The role alias decides.
        awscrt_log_level: Taken for compatibility; the AWS CRT is not used.
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
        _refuse(pkcs11=pkcs11, duration_seconds=duration_seconds)
        self.endpoint = _host(endpoint)
        self.role_alias = _text("role_alias", role_alias)
        self.thing_name = thing_name
        self.verify_peer = verify_peer
        self.timeout = _TIMEOUT if timeout is None else _seconds(timeout)
        self._certificate = _pem("certificate", certificate)
        if private_key is None:
            raise BRSValidationError("'private_key' is missing.", param="private_key")
        self._private_key = _pem("private_key", private_key)
        self._ca = None if ca is None else _pem("ca", ca)
        super().__init__(**kwargs)

    def _inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        ca = None if self._ca is None else digest_of(self._ca)
        public = {
            "endpoint": self.endpoint,
            "role_alias": self.role_alias,
            "thing_name": self.thing_name,
            "certificate": digest_of(self._certificate),
            "trust": [ca, bool(self.verify_peer)],
        }
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
        headers = {} if self.thing_name is None else {"x-amzn-iot-thingname": self.thing_name}
        host, _, port = self.endpoint.partition(":")
        connection = http.client.HTTPSConnection(
            host, int(port or 443), timeout=self.timeout, context=self._context()
        )
        try:
            connection.request("GET", f"/role-aliases/{alias}/credentials", headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_LONGEST_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            raise BRSConnectionError(
                f"AWS IoT at {self.endpoint} cannot be asked: {type(error).__name__}: {error}."
            ) from error
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if self._ca is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=self._ca.decode("ascii", "replace"))
        if not self.verify_peer:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        try:
            with _as_file(self._certificate) as certificate, _as_file(self._private_key) as key:
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

    def mqtt(self, **_: Any) -> NoReturn:
        """Not supported by this version."""
        raise BRSConfigurationError(
            "mqtt() is not supported by this version. Make the connection with the AWS IoT SDK for Python, with the "
            "same certificate."
        )


def _refuse(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise BRSConfigurationError(f"{name!r} is not supported by this version.", param=name)


def _host(endpoint: Any) -> str:
    text = _text("endpoint", endpoint)
    if "://" in text:
        parts = urllib.parse.urlsplit(text)
        if parts.scheme != "https":
            raise _no_endpoint(text)
        text = parts.netloc
    host, colon, port = text.strip("/").partition(":")
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
