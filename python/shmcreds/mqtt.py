"""MQTT connections of an IoT session, by the AWS IoT SDK."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from .exceptions import BRSConfigurationError, BRSValidationError
from .types import Transport

if TYPE_CHECKING:
    from .credentials import SharedCredentials
    from .types import PKCS11

#: The ports of MQTT, of MQTT beside HTTPS, and of WebSockets.
_PLAIN, _ALPN, _WEBSOCKET = 8883, 443, 443


def check_transport(transport: Any) -> None:
    """
    Raises:
        BRSValidationError: it is none.
    """
    if transport not in get_args(Transport):
        raise BRSValidationError(
            f"'transport' is {transport!r}; it must be 'x509' or 'ws'.", param="transport", value=transport
        )


def by_certificate(
    certificate: bytes,
    private_key: bytes | None,
    module: PKCS11 | None,
    *,
    use_alpn: bool,
    port: int | None,
    **options: Any,
) -> Any:
    """A connection that the device's certificate authenticates."""
    builder, io = _sdk()
    options = {**options, "client_bootstrap": _bootstrap(io), "port": port or (_ALPN if use_alpn else _PLAIN)}
    if module is None:
        return builder.mtls_from_bytes(cert_bytes=certificate, pri_key_bytes=private_key, **options)
    return builder.mtls_with_pkcs11(
        pkcs11_lib=io.Pkcs11Lib(file=module["pkcs11_lib"]),
        user_pin=module["user_pin"],
        slot_id=module["slot_id"],
        token_label=module["token_label"],
        private_key_label=module["private_key_label"],
        cert_bytes=certificate,
        **options,
    )


def by_credentials(
    credentials: SharedCredentials, *, region: str | None, port: int | None, **options: Any
) -> Any:
    """A connection over WebSockets. The newest set signs it, and each time it is made anew."""
    if not region:
        raise BRSConfigurationError(
            "mqtt(transport='ws') needs a Region: give 'region', or make the session with 'region_name'.",
            param="region",
        )
    builder, io = _sdk()
    from awscrt import auth

    def newest() -> Any:
        frozen = credentials.get_frozen_credentials()
        return auth.AwsCredentials(frozen.access_key, frozen.secret_key, frozen.token)

    return builder.websockets_with_default_aws_signing(
        region=region,
        credentials_provider=auth.AwsCredentialsProvider.new_delegate(newest),
        client_bootstrap=_bootstrap(io),
        port=port or _WEBSOCKET,
        **options,
    )


def log(level: Any) -> None:
    """What the AWS CRT does in this process goes to standard error."""
    _, io = _sdk()
    io.init_logging(level, "stderr")


def _bootstrap(io: Any) -> Any:
    # Not the one that the SDK keeps for all: a forked child would inherit it without its threads.
    group = io.EventLoopGroup(1)
    return io.ClientBootstrap(group, io.DefaultHostResolver(group))


def _sdk() -> tuple[Any, Any]:
    try:
        from awscrt import io
        from awsiot import mqtt_connection_builder
    except ImportError as error:
        raise BRSConfigurationError(
            "mqtt() needs the AWS IoT SDK, which is not installed. Install it by `pip install shmcreds[iot]`."
        ) from error
    return mqtt_connection_builder, io
