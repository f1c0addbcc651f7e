"""What a session's arguments are for the Rust library, where it fetches the sets: ``engine="native"``.

Whose credentials come must not depend on the engine. So what the library might understand otherwise is not translated.
"""

from __future__ import annotations

import logging
import os
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

import botocore.handlers
from botocore.config import Config

from . import mfa, native_module
from .exceptions import BRSConfigurationError

if TYPE_CHECKING:
    from .iot import IOTX509RefreshableSession
    from .session import RefreshableSession
    from .sts import STSRefreshableSession

logger = logging.getLogger("shmcreds")

_CLIENT_ARGUMENTS = frozenset(
    "service_name region_name api_version use_ssl verify endpoint_url aws_access_key_id aws_secret_access_key "
    "aws_session_token aws_account_id config".split()
)
#: Options of botocore's Config that change nothing here, or are translated below.
_CONFIG_OPTIONS = frozenset(
    "connect_timeout read_timeout retries proxies region_name user_agent user_agent_extra user_agent_appid "
    "max_pool_connections tcp_keepalive parameter_validation".split()
)
#: Places of credentials that botocore knows and the library does not.
_UNKNOWN_VARIABLES = ("AWS_CREDENTIAL_FILE", "BOTO_CONFIG", "AWS_SECURITY_TOKEN")


class Untranslatable(Exception):
    """The library cannot fetch this set as botocore would. The text says why."""


class NativeSource(NamedTuple):
    """How the library fetches the sets of a session."""

    #: ``role`` or ``thing``.
    kind: str
    inputs: dict[str, Any]
    eager: bool
    sealed: bool
    #: The program that becomes the refresher of an eager session.
    program: str | None


def choose(session: RefreshableSession, engine: str, sealed: bool, eager: bool) -> NativeSource | None:
    """How the library fetches the sets; None where botocore does.

    Raises:
        BRSConfigurationError: the library is asked for, and cannot.
    """
    from .program import own_program

    wanted = "sealed=True" if sealed else "engine='native'"
    insists = sealed or engine == "native"
    if insists:
        native_module.require(wanted)
    elif native_module.find() is None:
        return None
    try:
        kind, inputs = session._native_inputs()
        program = own_program() if eager and not sealed else None
        if not insists:
            _check_choice(program)
    except Untranslatable as reason:
        if insists:
            raise BRSConfigurationError(
                f"{wanted} lets the Rust library fetch the set, and that cannot be done here: {reason}. Leave it out: "
                f"botocore fetches the set then, once for all processes.",
                param="sealed" if sealed else "engine",
            ) from None
        logger.debug("botocore fetches the set: %s", reason)
        return None
    return NativeSource(kind, inputs, eager, sealed, program)


def _check_choice(program: str | None) -> None:
    if program is None:
        raise Untranslatable("this installation has no program 'shmcreds' to refresh the set")
    # moto and others answer botocore's requests in this process, where no other program sees them.
    for event, handler, *_ in botocore.handlers.BUILTIN_HANDLERS:
        module = getattr(handler, "__module__", type(handler).__module__)
        if event.startswith("before-send") and not module.startswith("botocore."):
            raise Untranslatable(f"{module} answers requests of botocore in this process")


def role_of(session: STSRefreshableSession) -> dict[str, Any]:
    """The inputs of a role.

    Raises:
        Untranslatable: there is one that the library does not have.
    """
    role = session.assume_role_kwargs
    if role.get("TokenCode") is not None and session.mfa_token_provider is None:
        raise Untranslatable("a fixed 'TokenCode' is good for one call")
    return {
        "role_arn": role["RoleArn"],
        "session_name": role["RoleSessionName"],
        "duration": role.get("DurationSeconds"),
        "external_id": role.get("ExternalId"),
        "policy": role.get("Policy"),
        "policy_arns": [policy["arn"] for policy in role.get("PolicyArns") or []],
        "tags": [(tag["Key"], tag["Value"]) for tag in role.get("Tags") or []],
        "transitive_tag_keys": list(role.get("TransitiveTagKeys") or []),
        "source_identity": role.get("SourceIdentity"),
        "provided_contexts": [
            (context["ProviderArn"], context["ContextAssertion"]) for context in role.get("ProvidedContexts") or []
        ],
        "mfa": _mfa(session),
        **_client(session),
        **_caller(session),
    }


def _mfa(session: STSRefreshableSession) -> tuple[str, list[str], float] | None:
    provider, kwargs = session.mfa_token_provider, session.mfa_token_provider_kwargs
    if provider is None:
        return None
    if callable(provider):
        raise Untranslatable("'mfa_token_provider' is a function")
    if set(kwargs) - {"timeout"}:
        raise Untranslatable("'mfa_token_provider_kwargs' has more than 'timeout'")
    command = shlex.split(provider) if isinstance(provider, str) else list(provider)
    return session.assume_role_kwargs["SerialNumber"], command, float(kwargs.get("timeout") or mfa.TIMEOUT)


def _client(session: STSRefreshableSession) -> dict[str, Any]:
    given = session.sts_client_kwargs
    unknown = {key for key, value in given.items() if value is not None} - _CLIENT_ARGUMENTS
    if unknown:
        raise Untranslatable(f"'sts_client_kwargs' has {', '.join(sorted(unknown))}")
    if given.get("use_ssl") is False or given.get("verify") is False:
        raise Untranslatable("'sts_client_kwargs' turns TLS or its check off")
    verify = given.get("verify")
    return {
        "region": given.get("region_name") or session._region(),
        "endpoint_url": given.get("endpoint_url"),
        "ca_bundle": verify if isinstance(verify, str) else None,
        **_config(given.get("config"), with_mfa=session.mfa_token_provider is not None),
    }


def _config(config: Config | None, *, with_mfa: bool) -> dict[str, Any]:
    given = {} if config is None else dict(config._user_provided_options)
    unknown = {key for key, value in given.items() if value is not None} - _CONFIG_OPTIONS
    if unknown:
        raise Untranslatable(f"'config' has {', '.join(sorted(unknown))}")
    proxies, retries = given.get("proxies") or {}, given.get("retries") or {}
    if len(set(proxies.values())) > 1:
        raise Untranslatable("'config' has several proxies")
    attempts = retries.get("total_max_attempts")
    if attempts is None and retries.get("max_attempts") is not None:
        attempts = retries["max_attempts"] + 1
    return {
        "connect_timeout": given.get("connect_timeout"),
        "read_timeout": given.get("read_timeout"),
        # A code is good for one attempt.
        "max_attempts": None if with_mfa else attempts,
        "proxy": next(iter(proxies.values()), None),
    }


def _caller(session: STSRefreshableSession) -> dict[str, Any]:
    """Who assumes the role."""
    client, base = session.sts_client_kwargs, session._base
    explicit = base._credentials
    if client.get("aws_access_key_id"):
        keys = (client["aws_access_key_id"], client.get("aws_secret_access_key"), client.get("aws_session_token"))
        return {"keys": keys, "profile": None}
    if explicit is not None:
        frozen = explicit.get_frozen_credentials()
        return {"keys": (frozen.access_key, frozen.secret_key, frozen.token), "profile": None}
    unknown = [name for name in _UNKNOWN_VARIABLES if name in os.environ]
    if unknown:
        raise Untranslatable(f"{unknown[0]} is set")
    if base.get_scoped_config().get("mfa_serial"):
        raise Untranslatable("the profile asks for a code on the terminal")
    profile = base.instance_variables().get("profile")
    if profile is None and "AWS_PROFILE" not in os.environ:
        profile = os.environ.get("AWS_DEFAULT_PROFILE")
    return {"keys": None, "profile": profile}


def thing_of(session: IOTX509RefreshableSession) -> dict[str, Any]:
    """The inputs of a device.

    Raises:
        Untranslatable: there is one that the library does not have.
    """
    if not session.verify_peer:
        raise Untranslatable("'verify_peer' is False")
    for name, given in (("pkcs11", session._hardware_key), ("duration_seconds", session.duration_seconds)):
        if given is not None:
            raise Untranslatable(f"{name!r} is given")
    return {
        "endpoint": session.endpoint,
        "role_alias": session.role_alias,
        "certificate": session._certificate,
        "private_key": session._private_key,
        "ca": session._ca,
        "thing_name": session.thing_name,
        "timeout": session.timeout,
    }
