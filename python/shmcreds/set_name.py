"""The name by which processes with the same recipe find each other's set.

The name is a digest of all that decides whose credentials come. It can be seen by all users of the host. So secrets
that could be guessed, the external id and the policy, are not in it: they are in the fingerprint, which only this
user can read.
"""

import base64
import hashlib
import json
import secrets
from typing import Any, NamedTuple

from botocore.config import Config

from .exceptions import BRSWarning

#: The canonical form of this version. A change of it changes all names.
PREFIX = "py1-"

#: The fingerprint of a set that only the name tells apart from others.
PRIVATE = hashlib.sha256(b"private").digest()

#: What of botocore's Config decides where a request goes, and who answers it.
_CONFIG_OPTIONS = (
    "region_name",
    "proxies",
    "proxies_config",
    "client_cert",
    "signature_version",
    "use_fips_endpoint",
    "use_dualstack_endpoint",
)

_UNNAMED_INPUTS = ("ExternalId", "Policy")
_UNHASHED_INPUTS = ("TokenCode",)


class Unhashable(Exception):
    """The recipe has a part of which no digest can be made. The text names it."""


class Recipe(NamedTuple):
    """All that decides whose credentials come, as two digests. The name is one where nobody has chosen another."""

    name: str
    fingerprint: bytes


class Digest:
    """SHA-256 of keys and values, each with its length, so that no two lists of them look alike."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, key: str, value: Any) -> None:
        """
        Raises:
            Unhashable: the value is no plain data.
        """
        for part in (key.encode(), _canonical(key, value)):
            self._hash.update(len(part).to_bytes(8, "big"))
            self._hash.update(part)

    def bytes(self) -> bytes:
        return self._hash.digest()


def _canonical(key: str, value: Any) -> bytes:
    if isinstance(value, bytes):
        return b"b" + value
    try:
        return b"j" + json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise Unhashable(key) from error


def random_name() -> str:
    """A name that no other session has."""
    return PREFIX + _base32(secrets.token_bytes(16))


def recipe_of(public: dict[str, Any], guessable: dict[str, Any]) -> Recipe:
    """The name for the inputs that may be known, and the fingerprint of all.

    Raises:
        Unhashable: as :meth:`Digest.add`.
    """
    digest = Digest()
    for key in sorted(public):
        digest.add(key, public[key])
    name = PREFIX + _base32(digest.bytes())
    for key in sorted(guessable):
        digest.add(key, guessable[key])
    return Recipe(name, digest.bytes())


def tell_collision(name: str) -> None:
    """Two recipes have one name: they differ in the external id or the policy, or the user chose the name."""
    BRSWarning.warn(
        f"The session {name} is in use with another recipe (an external id, a policy, or all where name= was "
        f"given). This one keeps a set for itself and its forked children.",
        stacklevel=5,
    )


def split_role(inputs: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of AssumeRole that may stand in a name, and those that could be guessed from it."""
    public = {k: v for k, v in inputs.items() if k not in _UNNAMED_INPUTS + _UNHASHED_INPUTS}
    return public, {k: inputs[k] for k in _UNNAMED_INPUTS if k in inputs}


def client_inputs(given: dict[str, Any]) -> dict[str, Any]:
    """What of the arguments of an STS client decides whose credentials come."""
    inputs = {k: v for k, v in given.items() if k not in ("config", "service_name")}
    for secret in ("aws_secret_access_key", "aws_session_token"):
        if secret in inputs:
            inputs[secret] = digest_of(inputs[secret])
    config = given.get("config")
    if isinstance(config, Config):
        for option in _CONFIG_OPTIONS:
            value = getattr(config, option, None)
            if value is not None:
                inputs[f"config.{option}"] = value
    elif config is not None:
        raise Unhashable("sts_client_kwargs['config']")
    return inputs


def digest_of(secret: str | bytes) -> str:
    data = secret.encode() if isinstance(secret, str) else secret
    return hashlib.sha256(b"shmcreds" + data).hexdigest()


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()
