"""Which store a session gets: one of the host where the native module is there, else one of this process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from . import native_module
from .policy import Windows
from .set_name import Recipe, tell_collision
from .store import Store

if TYPE_CHECKING:
    from .native_source import NativeSource

logger = logging.getLogger("shmcreds")

_told = False


def open_store(
    recipe: Recipe, windows: Windows, operation: str, native_source: NativeSource | None = None
) -> Store:
    """The store of that name. One that belongs to another recipe is left alone."""
    module = native_module.find()
    if module is not None:
        from .native_store import open_native

        return open_native(module, recipe, windows, operation, native_source)
    from . import process_store

    reason = native_module.absence()
    _tell_once(reason)
    store = process_store.named(recipe.name, recipe.fingerprint, windows, reason)
    if store is None:
        tell_collision(recipe.name)
        return process_store.ProcessStore(recipe.name, recipe.fingerprint, windows, reason)
    return store


def _tell_once(reason: str) -> None:
    global _told
    if not _told:
        _told = True
        logger.info("each process keeps its own set: %s", reason)
