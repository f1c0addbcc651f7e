"""The variables as they were before a session was exported: who fetches its sets is told by them.

An export sets variables for other libraries, and removes those that would take precedence. Forked and spawned processes
inherit that, and the note with the values from before.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .caller import EXPORTED

#: The variable with the note.
VARIABLE = EXPORTED


class Note(NamedTuple):
    #: The name of the exported session.
    session: str
    #: The values before; None for a variable that was not set.
    variables: dict[str, str | None]

    def text(self) -> str:
        return json.dumps(self._asdict())


def note() -> Note | None:
    """The note of this process; None where no session is exported."""
    text = os.environ.get(VARIABLE)
    return None if not text else _read(text)


@functools.lru_cache(maxsize=1)
def _read(text: str) -> Note:
    found = json.loads(text)
    return Note(found["session"], found["variables"])


class _Before(Mapping[str, str]):
    """The variables without what an export has changed."""

    def __getitem__(self, name: str) -> str:
        found = note()
        if found is not None and name in found.variables:
            value = found.variables[name]
            if value is None:
                raise KeyError(name)
            return value
        return os.environ[name]

    def __iter__(self) -> Iterator[str]:
        found = note()
        aside = {} if found is None else found.variables
        yield from (name for name in os.environ if name not in aside and name != VARIABLE)
        yield from (name for name, value in aside.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __deepcopy__(self, _: object) -> _Before:
        return self

    def __repr__(self) -> str:
        return "<the variables before an export>"


_before = _Before()


def environ() -> Mapping[str, str]:
    """The variables that say who fetches."""
    return os.environ if VARIABLE not in os.environ else _before


def pin(session: Any) -> None:
    """Lets a session of botocore read the variables from before, now and later."""
    from botocore.configprovider import ChainProvider, EnvironmentProvider
    from botocore.exceptions import BotoCoreError

    for chain in session.get_component("config_store")._mapping.values():
        providers = chain._providers if isinstance(chain, ChainProvider) else [chain]
        for provider in providers:
            if isinstance(provider, EnvironmentProvider):
                provider._env = _before
    try:
        _pin_chain(session.get_component("credential_provider"))
    except BotoCoreError:
        # For example its profile is missing. Should it come, the chain is made then.
        session.lazy_register_component(
            "credential_provider", lambda: _pin_chain(session._create_credential_resolver())
        )


def _pin_chain(chain: Any) -> Any:
    for provider in chain.providers:
        for attribute in ("environ", "_environ"):
            if hasattr(provider, attribute):
                setattr(provider, attribute, _before)
        if hasattr(provider, "_get_env_config"):
            # The one for web identities reads `os.environ` itself.
            provider._get_env_config = functools.partial(_by_variable, provider)
    return chain


def _by_variable(provider: Any, key: str) -> str | None:
    name = None if provider._disable_env_vars else provider._CONFIG_TO_ENV_VAR.get(key)
    return None if name is None else _before.get(name)
