"""Which store a session gets: one of the host where the native module is there, else one of this process."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .exceptions import BRSConfigurationError, BRSWarning
from .policy import Windows
from .recipe import Recipe
from .store import Store

if TYPE_CHECKING:
    from .native_source import NativeSource

logger = logging.getLogger("shmcreds")

_told = False


def native() -> ModuleType | None:
    """The native module, unless it is absent or SHMCREDS_NATIVE=0 turns it off."""
    return None if absence() else sys.modules[f"{__package__}._native"]


def absence() -> str:
    """Why the native module is not used; empty where it is."""
    if os.environ.get("SHMCREDS_NATIVE") == "0":
        return "SHMCREDS_NATIVE=0 turns the native module off"
    try:
        from . import _native  # noqa: F401 - it is looked up by its name
    except ImportError as error:
        if sys.platform == "linux" and _is_installed():
            # For example in a sub-interpreter.
            return f"the native module cannot be loaded: {error}"
        return f"this installation has no native module for {sys.platform}"
    return ""


def _is_installed() -> bool:
    return importlib.util.find_spec(f"{__package__}._native") is not None


def require_native(what: str) -> Any:
    """The native module.

    Raises:
        BRSConfigurationError: it is not there.
    """
    module = native()
    if module is None:
        raise BRSConfigurationError(
            f"{what} needs shared memory, and {absence()}. Run the program on Linux on x86-64 with the platform's "
            f"wheel of shmcreds, or leave it out: sessions then keep a set for each process."
        )
    return module


def open_store(
    recipe: Recipe, windows: Windows, operation: str, native_source: NativeSource | None = None
) -> Store:
    """The store of that name. One that belongs to another recipe is left alone."""
    module = native()
    if module is not None:
        from .native_store import open_native

        return open_native(module, recipe, windows, operation, native_source)
    from . import process_store

    reason = absence()
    _tell_once(reason)
    store = process_store.named(recipe.name, recipe.fingerprint, windows, reason)
    if store is None:
        tell_collision(recipe.name)
        return process_store.ProcessStore(recipe.name, recipe.fingerprint, windows, reason)
    return store


def tell_collision(name: str) -> None:
    """Two recipes have one name: they differ in the external id or the policy, or the user chose the name."""
    BRSWarning.warn(
        f"The session {name} is in use with another recipe (an external id, a policy, or all where name= was "
        f"given). This one keeps a set for itself and its forked children.",
        stacklevel=5,
    )


def _tell_once(reason: str) -> None:
    global _told
    if not _told:
        _told = True
        logger.info("each process keeps its own set: %s", reason)
