"""A thread that refreshes a set in time, so that no reader waits."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref

from . import fork
from .obtain import Obtainer
from .store import FRESH, Store

logger = logging.getLogger("shmcreds")

#: The longest sleep: how long a set that AWS rejected waits for its replacement at most.
LONGEST_SLEEP = 1.0
#: How long a fork waits for a call of the source in flight.
FORK_WAIT = 1.0


class RefreshThread:
    """Stops before each fork of this process and goes on after it in the parent, so that no fork copies a thread in
    the middle of a call."""

    def __init__(self, obtainer: Obtainer) -> None:
        self._obtainer = weakref.ref(obtainer, lambda _: self.stop())
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        fork.watch(self)

    def start(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_run, args=(self._obtainer, self._stop), name="shmcreds-refresher", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def before_fork(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            self.stop()
            fork.wait_for_end(self._thread, FORK_WAIT)

    def after_fork_in_parent(self) -> None:
        if self._thread is not None and self._thread is not threading.current_thread():
            # An interpreter that ends starts no thread.
            with contextlib.suppress(RuntimeError):
                self.start()

    def after_fork_in_child(self) -> None:
        # The parent refreshes. Should it end, the readers do.
        self._thread = None


def _run(obtainer_of: weakref.ref[Obtainer], stop: threading.Event) -> None:
    while not stop.is_set():
        obtainer = obtainer_of()
        if obtainer is None:
            return
        store: Store = obtainer.store
        refresh_if_due(obtainer)
        del obtainer
        stop.wait(time_to_sleep(store))


def refresh_if_due(obtainer: Obtainer) -> None:
    """Fetches a set where it is time for one. Tells of a failure in the log."""
    look = obtainer.store.look()
    if look is not None and look.state == FRESH:
        return
    if obtainer.store.back_off() is not None:
        return
    try:
        obtainer.obtain()
    except BaseException as error:
        # Also of a source that ends the program, or is cancelled: the thread goes on.
        logger.warning("session %s: the refresh failed: %s", obtainer.store.name, type(error).__name__)


def time_to_sleep(store: Store) -> float:
    """Seconds until the set is due, or may be asked for again."""
    look, back_off = store.look(), store.back_off()
    due = 0.0 if look is None else look.refresh_in
    if back_off is not None:
        due = max(due, back_off.next_attempt_in)
    return min(max(due, 0.01), LONGEST_SLEEP)
