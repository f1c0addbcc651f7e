"""A store in shared memory: one set for all processes of this user on this host."""

from __future__ import annotations

import atexit
import glob
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

from botocore.credentials import ReadOnlyCredentials

from . import clock, fork, greenlets, policy
from .exceptions import BRSConfigurationError, BRSConnectionError
from .failure import BackOff, Failure, exception_of
from .living import Living
from .policy import Windows
from .set_name import Recipe, random_name, tell_collision
from .store import REJECTED, Counters, Fetched, Look, SourceFailed, Term

if TYPE_CHECKING:
    from .native_source import NativeSource

#: How long one call of the source may take. Another process is elected 5 s later.
TIMEOUT = 60.0
#: How long a fork waits for a call of the library in flight.
FORK_WAIT = 1.0

_open: Living[NativeStore] = Living()


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

    def __init__(self, module: ModuleType, store: Any, native: NativeSource | None = None) -> None:
        self._module: Any = module
        self._store = store
        self.name: str = store.name
        self.engine = "python" if native is None else "native"
        #: Whether a process of its own refreshes the set.
        self.refreshes_itself: bool = store.is_eager()
        #: The rejected generation for whose successor callers wait, and until when.
        self._patience = (0, 0.0)
        #: The native method itself: nothing stands between botocore and the set.
        self.fresh = store.fresh
        _open.add(self)
        if native is not None:
            fork.watch(self)

    def before_fork(self) -> None:
        """Waits for a call of the library in flight: a fork beside its thread is a risk, of which Python warns."""
        end = time.monotonic() + FORK_WAIT
        while _fetches() and time.monotonic() < end:
            time.sleep(0.005)

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None: ...

    def look(self) -> Look | None:
        seen = self._store.look()
        return None if seen is None else Look(*seen)

    def stand(self, seconds: float) -> Look | Term | None:
        began = clock.now()
        outcome = self._outcome(self._store.stand, seconds)
        # The library gives a rejected set at the end of a wait. Here this is the end of a slice of the caller's wait.
        is_slice_over = clock.now() - began >= seconds / 2
        if is_slice_over and isinstance(outcome, Look) and self._waits_for_next(outcome, began):
            return None
        return outcome

    def _waits_for_next(self, look: Look, began: float) -> bool:
        """Whether a caller goes on to wait for the set that takes the place of this one, because AWS rejected this one."""
        if look.state != REJECTED or self.back_off() is not None:
            return False
        age = (self.lifetime() or 0.0) - (look.expires - time.time())
        if age < policy.REJECTION_FLOOR:
            return False
        if self._patience[0] != look.generation:
            self._patience = (look.generation, began + policy.REJECTED_WAIT)
        return clock.now() < self._patience[1]

    def stand_after(self, generation: int, seconds: float) -> Look | Term | None:
        return self._outcome(self._store.stand_after, generation, seconds)

    def stand_valid_for(self, needed: float, seconds: float) -> Look | Term | None:
        if self.engine == "native":
            # It waits for the call of the library, whatever the limit.
            return self._outcome(greenlets.beside, self._store.stand_valid_for, needed, seconds)
        return self._outcome(self._store.stand_valid_for, needed, seconds)

    def lifetime(self) -> float | None:
        life: float | None = self._store.lifetime()
        return life

    def _outcome(self, stand: Any, *given: Any) -> Look | Term | None:
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


def open_native(
    module: Any, recipe: Recipe, windows: Windows, operation: str, native: NativeSource | None = None
) -> NativeStore:
    """The store of that name, made where there is none; a private one where it belongs to another recipe.

    Raises:
        BRSConfigurationError: shared memory cannot be used.
        Exception: an eager session cannot fetch its first set.
    """
    try:
        return _opened(module, recipe, windows, native)
    except module.NativeError as error:
        if error.args[0] != "WrongSource":
            raise translated(error, operation) from None
    tell_collision(recipe.name)
    try:
        return _opened(module, recipe._replace(name=random_name()), windows, native)
    except module.NativeError as error:
        raise translated(error, operation) from None


def create_native(module: Any, recipe: Recipe, windows: Windows) -> NativeStore:
    """A new store of that name.

    Raises:
        BRSConfigurationError: there is one; or shared memory cannot be used.
    """
    try:
        return _opened(module, recipe, windows, None, only_create=True)
    except module.NativeError as error:
        kind, text = error.args[:2]
        if kind != "InUse":
            raise translated(error) from None
    raise BRSConfigurationError(
        f"There is a session {recipe.name!r} already ({text}). Use attach_or_create(), or remove it by "
        f"`shmcreds remove {recipe.name}`.",
        code=kind,
        param="name",
    )


def _opened(
    module: Any, recipe: Recipe, windows: Windows, native: NativeSource | None, *, only_create: bool = False
) -> NativeStore:
    wanted: dict[str, Any] = {
        "name": recipe.name,
        "fingerprint": recipe.fingerprint,
        "timeout": TIMEOUT,
        "advisory": windows.advisory,
        "mandatory": windows.mandatory,
        "only_create": only_create,
        "role": None,
        "thing": None,
        "eager": False,
        "sealed": False,
        "program": None,
    }
    if native is not None:
        wanted[native.kind] = native.inputs
        wanted.update(eager=native.eager, sealed=native.sealed, program=native.program)
    return NativeStore(module, greenlets.beside(module.Store.open, wanted, ReadOnlyCredentials), native)


def attach_native(module: Any, name: str) -> NativeStore:
    """A store that is there, to read it.

    Raises:
        BRSConnectionError: there is none of that name.
        BRSConfigurationError: shared memory cannot be used.
    """
    try:
        return NativeStore(module, module.Store.attach(name, ReadOnlyCredentials))
    except module.NativeError as error:
        raise translated(error) from None


def translated(error: Any, operation: str = "GetCredentials") -> Exception:
    """The exception of this package for one of the native module."""
    kind, text, failure = error.args[:3]
    if failure is not None:
        return exception_of(Failure(*failure), operation)
    if kind in ("Absent", "NoSource", "Timeout", "InUse", "Uninitialized"):
        return BRSConnectionError(text, code=kind)
    return BRSConfigurationError(text, code=kind)


def _fetches() -> bool:
    """Whether the library has a call in flight in this process."""
    for path in glob.iglob("/proc/self/task/*/comm"):
        try:
            with open(path) as file:
                name = file.read()
        except OSError:
            continue  # The thread has ended.
        if name.startswith(("shmcreds-fetch", "tokio-")):
            return True
    return False


@atexit.register
def _leave_all() -> None:
    # The last user removes the name. An interpreter that ends does not free what is still referenced.
    for store in _open.all():
        store.leave()
