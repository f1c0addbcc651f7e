"""A store in shared memory: one set for all processes of this user on this host."""

from __future__ import annotations

import atexit
import weakref
from types import ModuleType
from typing import Any


from .compat import read_only
from .exceptions import BRSConfigurationError, BRSConnectionError
from .failure import BackOff, Failure
from .policy import Windows
from .recipe import Recipe, random_name
from .sharing import tell_collision
from .store import Counters, Fetched, Look, SourceFailed, Term

#: How long one call of the source may take. Another process is elected 5 s later.
TIMEOUT = 60.0

_open: weakref.WeakSet[NativeStore] = weakref.WeakSet()


class NativeTerm:
    """See :class:`shmcreds.store.Term`."""

    def __init__(self, module: Any, term: Any) -> None:
        self._module = module
        self._term = term

    def publish(self, fetched: Fetched) -> None:
        try:
            self._term.publish(
                fetched.access_key, fetched.secret_key, fetched.token, fetched.expires, fetched.account_id
            )
        except self._module.NativeError as error:
            # The lease is over: another process fetches, and its set is the one to use.
            if error.args[0] != "TermOver":
                raise translated(error) from None

    def fail(self, failure: Failure) -> None:
        try:
            self._term.fail(*failure)
        except self._module.NativeError as error:
            if error.args[0] != "TermOver":
                raise translated(error) from None


class NativeStore:
    """See :class:`shmcreds.store.Store`."""

    sharing = "host"
    reason = ""

    def __init__(self, module: ModuleType, store: Any) -> None:
        self._module: Any = module
        self._store = store
        self.name: str = store.name
        #: The native method itself: nothing stands between botocore and the set.
        self.fresh = store.fresh
        _open.add(self)

    def look(self) -> Look | None:
        seen = self._store.look()
        return None if seen is None else Look(*seen)

    def stand(self, seconds: float) -> Look | Term | None:
        return self._outcome(self._store.stand, seconds)

    def stand_after(self, generation: int, seconds: float) -> Look | Term | None:
        return self._outcome(self._store.stand_after, generation, seconds)

    def _outcome(self, stand: Any, *given: float) -> Look | Term | None:
        try:
            outcome = stand(*given)
        except self._module.NativeError as error:
            raise self._failed(error) from None
        if isinstance(outcome, tuple):
            return Look(*outcome)
        return None if outcome is None else NativeTerm(self._module, outcome)

    def _failed(self, error: Any) -> Exception:
        _, _, failure, retry_after = error.args
        if failure is None:
            return translated(error)
        return SourceFailed(BackOff(Failure(*failure), self.counters().failures, retry_after or 0.0))

    def back_off(self) -> BackOff | None:
        seen = self._store.back_off()
        return None if seen is None else BackOff(Failure(*seen[0]), *seen[1:])

    def reject(self, access_key: str) -> bool:
        return bool(self._store.reject(access_key))

    def set_windows(self, windows: Windows) -> None:
        self._store.set_windows(windows.advisory, windows.mandatory)

    def counters(self) -> Counters:
        return Counters(*self._store.counters())

    def unlink(self) -> None:
        self._store.unlink()

    def leave(self) -> None:
        self._store.leave()


def open_native(module: Any, recipe: Recipe, windows: Windows, *, private: bool) -> NativeStore:
    """The store of that name, made where there is none; a private one where it belongs to another recipe.

    Raises:
        BRSConfigurationError: shared memory cannot be used.
    """
    try:
        return _opened(module, recipe, windows)
    except module.NativeError as error:
        if error.args[0] != "WrongSource":
            raise translated(error) from None
    tell_collision(recipe.name)
    try:
        return _opened(module, recipe._replace(name=random_name()), windows)
    except module.NativeError as error:
        raise translated(error) from None


def _opened(module: Any, recipe: Recipe, windows: Windows) -> NativeStore:
    store = module.Store.open(
        recipe.name,
        recipe.fingerprint,
        TIMEOUT,
        windows.advisory,
        windows.mandatory,
        read_only,
    )
    return NativeStore(module, store)


def attach_native(module: Any, name: str) -> NativeStore:
    """A store that is there, to read it.

    Raises:
        BRSConnectionError: there is none of that name.
        BRSConfigurationError: shared memory cannot be used.
    """
    try:
        return NativeStore(module, module.Store.attach(name, read_only))
    except module.NativeError as error:
        raise translated(error) from None


def translated(error: Any) -> Exception:
    """The exception of this package for one of the native module."""
    kind, text = error.args[:2]
    if kind in ("Absent", "NoSource", "Timeout", "InUse", "Uninitialized"):
        return BRSConnectionError(text, code=kind)
    return BRSConfigurationError(text, code=kind)


@atexit.register
def _leave_all() -> None:
    # The last user removes the name. An interpreter that ends does not free what is still referenced.
    for store in list(_open):
        store.leave()
