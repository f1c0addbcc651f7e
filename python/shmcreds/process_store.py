"""A store in the memory of this process, for platforms without the native module."""

import random
import threading
import time
import weakref
from typing import NamedTuple

from botocore.credentials import ReadOnlyCredentials

from . import clock, fork, policy
from .compat import read_only
from .exceptions import BRSConfigurationError, BRSCredentialError
from .failure import TRANSIENT, BackOff, Failure
from .policy import Points, Windows
from .store import ADVISORY, EXPIRED, FRESH, MANDATORY, REJECTED, Counters, Fetched, Look, SourceFailed

#: How long callers wait in the last minute of a set for another thread's refresh.
MANDATORY_WAIT = 1.0


class _Current(NamedTuple):
    frozen: ReadOnlyCredentials
    expires: float
    points: Points
    fetched_at: float
    generation: int


class _Failed(NamedTuple):
    failure: Failure
    number: int
    next_attempt: float
    in_a_row: int


class ProcessTerm:
    """See :class:`shmcreds.store.Term`."""

    def __init__(self, store: "ProcessStore") -> None:
        self._store: "ProcessStore | None" = store

    def publish(self, fetched: Fetched) -> None:
        store, self._store = self._store, None
        if store is not None:
            store._publish(self, fetched)

    def fail(self, failure: Failure) -> None:
        store, self._store = self._store, None
        if store is not None:
            store._fail(self, failure)

    def __del__(self) -> None:
        self.fail(Failure(TRANSIENT, "the attempt was given up"))


class ProcessStore:
    """See :class:`shmcreds.store.Store`. All sessions of one name in this process share one."""

    sharing = "process"
    engine = "python"
    refreshes_itself = False

    def __init__(self, name: str, fingerprint: bytes, windows: Windows, reason: str) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.reason = reason
        self._windows = windows
        self._changed = threading.Condition()
        self._current: _Current | None = None
        #: The generation that AWS rejected.
        self._rejected = 0
        self._failed: _Failed | None = None
        self._holder: weakref.ref[ProcessTerm] | None = None
        #: Counts publications and failures.
        self._event = 0
        #: The generation for whose successor callers wait, and until when.
        self._patience = (0, 0.0)
        self._calls = 0
        self._failures = 0
        fork.watch(self)

    def fresh(self) -> ReadOnlyCredentials | None:
        current = self._current
        if current is None or clock.now() >= current.points.advisory:
            return None
        return current.frozen if current.generation != self._rejected else None

    def look(self) -> Look | None:
        current = self._current
        if current is None:
            return None
        now = clock.now()
        refresh_in = current.points.advisory - now
        state = self._state(current, now)
        expires = clock.expiry_now(current.expires, current.points.expires - now)
        return Look(current.frozen, expires, state, current.generation, refresh_in)

    def _state(self, current: _Current, now: float) -> str:
        at = current.points
        if now >= at.expires:
            return EXPIRED
        floor = min(current.fetched_at + policy.REJECTION_FLOOR, at.mandatory)
        if current.generation == self._rejected and now >= floor:
            return REJECTED
        if now >= at.mandatory:
            return MANDATORY
        return ADVISORY if now >= at.advisory else FRESH

    def stand(self, seconds: float) -> Look | ProcessTerm | None:
        look = self.look()
        if look is None or look.state == EXPIRED:
            return self._stand_after(0, seconds)
        if look.state == FRESH:
            return look
        term = self._elect()
        if term is not None:
            return term
        if look.state == ADVISORY or self.back_off() is not None:
            return look
        return self._newer(look, seconds)

    def stand_valid_for(self, needed: float, seconds: float) -> Look | ProcessTerm | None:
        outcome, current = self.stand(seconds), self._current
        if not isinstance(outcome, Look) or current is None:
            return outcome
        now, expires = clock.now(), current.points.expires
        life = expires - current.fetched_at
        if now + needed <= expires:
            return outcome
        if needed > life:
            raise BRSConfigurationError(
                f"Asked for a set that is valid for {needed:.0f} s, and the sets of this source live for {life:.0f} s. "
                f"Raise 'DurationSeconds' and the role's MaxSessionDuration, or ask for less.",
                code="TooShort",
            )
        # A younger set stays: so there are at most eight such calls in its life.
        if now < current.fetched_at + life * policy.YOUNGEST_REPLACED:
            return outcome
        return self._stand_after(outcome.generation, seconds)

    def lifetime(self) -> float | None:
        current = self._current
        return None if current is None else current.points.expires - current.fetched_at

    def stand_after(self, generation: int, seconds: float) -> Look | ProcessTerm | None:
        return self._stand_after(generation, seconds)

    def _stand_after(self, generation: int, seconds: float) -> Look | ProcessTerm | None:
        end = clock.now() + seconds
        while True:
            event = self._event
            look = self.look()
            if look is not None and look.generation > generation and look.state != EXPIRED:
                return look
            term = self._elect()
            if term is not None:
                return term
            back_off = self.back_off()
            if back_off is not None:
                raise SourceFailed(back_off)
            left = end - clock.now()
            if left <= 0:
                return None
            self._wait(event, left)

    def _newer(self, look: Look, seconds: float) -> Look | ProcessTerm | None:
        """The next set, where another thread fetches it soon enough; else this one."""
        if self._patience[0] != look.generation:
            limit = policy.REJECTED_WAIT if look.state == REJECTED else MANDATORY_WAIT
            self._patience = (look.generation, clock.now() + limit)
        left = self._patience[1] - clock.now()
        if left <= 0:
            return look
        try:
            return self._stand_after(look.generation, min(left, seconds))
        except SourceFailed:
            return look

    def _elect(self) -> ProcessTerm | None:
        with self._changed:
            if self._holder is not None or self._wait_left() > 0:
                return None
            term = ProcessTerm(self)
            self._holder = weakref.ref(term)
            self._calls += 1
            return term

    def _wait(self, event: int, seconds: float) -> None:
        """Waits until something changes, at most so long."""
        with self._changed:
            if self._event == event:
                self._changed.wait(seconds)

    def _wait_left(self) -> float:
        return 0.0 if self._failed is None else self._failed.next_attempt - clock.now()

    def back_off(self) -> BackOff | None:
        failed, left = self._failed, self._wait_left()
        return None if failed is None or left <= 0 else BackOff(failed.failure, failed.number, left)

    def reject(self, access_key: str) -> bool:
        with self._changed:
            current = self._current
            if current is None or current.frozen.access_key != access_key:
                return False
            if self._rejected == current.generation:
                return False
            self._rejected = current.generation
            self._tell()
            return True

    def set_windows(self, windows: Windows) -> None:
        self._windows = windows

    def counters(self) -> Counters:
        return Counters(self._calls, self._failures)

    def unlink(self) -> None:
        with _stores_lock:
            if _stores.get(self.name) is self:
                del _stores[self.name]

    def _publish(self, term: ProcessTerm, fetched: Fetched) -> None:
        lifetime = fetched.expires - time.time()
        if lifetime <= 0:
            self._fail(term, Failure(TRANSIENT, "the source gave a set that has expired"))
            raise BRSCredentialError("The source gave a set that has expired.", param="expiry_time")
        frozen = read_only(fetched.access_key, fetched.secret_key, fetched.token, fetched.account_id)
        now = clock.now()
        with self._changed:
            if not self._ends(term):
                return
            generation = 1 if self._current is None else self._current.generation + 1
            at = policy.points(self._windows, now, lifetime, random.SystemRandom().random())
            self._current = _Current(frozen, fetched.expires, at, now, generation)
            self._failed = None
            self._tell()

    def _fail(self, term: ProcessTerm, failure: Failure) -> None:
        with self._changed:
            if not self._ends(term):
                return
            now = clock.now()
            self._failures += 1
            in_a_row = 1 if self._failed is None else self._failed.in_a_row + 1
            expires = 0.0 if self._current is None else self._current.points.expires
            chance = random.SystemRandom().random()
            next_attempt = policy.next_attempt(failure.kind, in_a_row, now, expires, chance)
            self._failed = _Failed(failure, self._failures, next_attempt, in_a_row)
            self._tell()

    def _ends(self, term: ProcessTerm) -> bool:
        """Whether the term is the current one; then it is over. One from before a fork is not."""
        holder = self._holder
        # The reference is dead where the term is being deleted.
        if holder is None or holder() not in (term, None):
            return False
        self._holder = None
        return True

    def _tell(self) -> None:
        self._event += 1
        self._changed.notify_all()

    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        # Another thread of the parent may have had the lock, or been elected. It is not here.
        self._changed = threading.Condition()
        self._holder = None


_stores: weakref.WeakValueDictionary[str, ProcessStore] = weakref.WeakValueDictionary()
_stores_lock = threading.Lock()


class _Lock:
    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        global _stores_lock
        _stores_lock = threading.Lock()


_lock = _Lock()
fork.watch(_lock)


def named(name: str, fingerprint: bytes, windows: Windows, reason: str) -> ProcessStore | None:
    """The store of that name, made where there is none; None where it belongs to another recipe."""
    with _stores_lock:
        store = _stores.get(name)
        if store is None:
            store = _stores[name] = ProcessStore(name, fingerprint, windows, reason)
    return store if store.fingerprint == fingerprint else None
