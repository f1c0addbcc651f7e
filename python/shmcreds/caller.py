"""Who calls the source: the base identity, for example the keys or the profile that assume the role."""

import os
from collections.abc import Mapping
from typing import Any

from .set_name import digest_of

#: The variable in which an export keeps the values from before.
EXPORTED = "SHMCREDS_EXPORTED"

_VARIABLES = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "HOME",
)
_VARIABLE_PREFIXES = ("AWS_CONTAINER_", "AWS_ENDPOINT_URL")


def environ() -> Mapping[str, str]:
    """The variables that say who fetches: those from before an export."""
    if EXPORTED not in os.environ:
        return os.environ
    from . import before  # Few processes need it.

    return before.environ()


def base_identity(session: Any) -> dict[str, Any]:
    """Who calls the source: the explicit keys of a botocore session, or what its chain of providers looks at."""
    explicit = session._credentials
    if explicit is not None:
        frozen = explicit.get_frozen_credentials()
        return {"key": frozen.access_key, "secret": digest_of(f"{frozen.secret_key}\n{frozen.token}")}
    variables = environ()
    environment = {name: variables[name] for name in _VARIABLES if name in variables}
    for name, value in variables.items():
        if name.startswith(_VARIABLE_PREFIXES):
            environment[name] = value
    files = {
        variable: _real_path(session.get_config_variable(variable))
        for variable in ("config_file", "credentials_file")
    }
    return {"profile": session.profile, "files": files, "environment": environment}


def _real_path(path: str | None) -> str | None:
    return None if path is None else os.path.realpath(os.path.expanduser(path))
