"""The native module: whether it is there, and why not."""

from __future__ import annotations

import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from .exceptions import BRSConfigurationError


def find() -> ModuleType | None:
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


def require(what: str) -> Any:
    """The native module.

    Raises:
        BRSConfigurationError: it is not there.
    """
    module = find()
    if module is None:
        raise BRSConfigurationError(
            f"{what} needs shared memory, and {absence()}. Run the program on Linux on x86-64 with the platform's "
            f"wheel of shmcreds, or leave it out: sessions then keep a set for each process."
        )
    return module
