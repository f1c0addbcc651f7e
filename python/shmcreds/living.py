"""Objects that something is to be done with for as long as they live."""

from __future__ import annotations

import weakref
from typing import Generic, TypeVar

T = TypeVar("T")


class Living(Generic[T]):
    """Those of the objects added that are alive. A ``WeakSet`` cannot be read while another thread adds to it."""

    def __init__(self) -> None:
        self._known: dict[weakref.ref[T], None] = {}

    def add(self, item: T) -> None:
        self._known[weakref.ref(item, self._known.pop)] = None

    def all(self) -> list[T]:
        # `list` of a dict is one step for other threads.
        return [item for item in (known() for known in list(self._known)) if item is not None]
