"""How a set is got: read, fetched by this thread, or waited for."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from . import clock, greenlets, source_calls
from .exceptions import BRSConfigurationError, BRSConnectionError, BRSWarning
from .failure import TRANSIENT, BackOff, Failure, exception_of, failure_of
from .interrupts import is_interrupt
from .policy import Windows
from .store import EXPIRED, FRESH, Fetched, Look, SourceFailed, Store, Term

logger = logging.getLogger("shmcreds")

#: How long a caller waits when nothing valid is there.
WAIT = 30.0
#: The longest wait at a stretch: a signal is handled after it.
SLICE = 0.1
#: The same where gevent has patched `time`: other greenlets run in between.
GEVENT_SLICE = 0.02
#: So much more than its life may be asked of a set.
LEEWAY = 10.0


class Obtainer:
    """Gives the newest set of a store. The thread that is elected calls ``source`` itself.

    Args:
        source: Fetches a set.
        operation: The operation that a ``ClientError`` names.
    """

    def __init__(
        self, store: Store, source: Callable[[], Fetched], windows: Windows, operation: str
    ) -> None:
        self.store = store
        self.fresh = store.fresh
        self._source = source
        self._windows = windows
        self._operation = operation
        #: The newest failure of this process, as it was raised.
        self._own_failure: tuple[int, Failure, Exception] | None = None
        self._clamp_told = False
        #: Whether the user knows that the sets are too short for a URL.
        self.short_told = False
        #: The generation of a set that no URL can have a better one than, until that second of the Unix epoch.
        self.best: tuple[int, float] = (0, 0.0)

    @property
    def windows(self) -> Windows:
        return self._windows

    @windows.setter
    def windows(self, windows: Windows) -> None:
        self._windows = windows
        self.store.set_windows(windows)

    def obtain(self) -> Look:
        """The set to use now. No error while there is a valid one.

        Raises:
            Exception: what the source raised; as a new exception where another process called it.
            BRSConnectionError: no valid set came within 30 s.
        """
        outcome = self._stand(self.store.stand)
        if isinstance(outcome, Look):
            return outcome
        try:
            self._fetch(outcome)
        except Exception as error:
            look = self.store.look()
            if look is None or look.state == EXPIRED or is_interrupt(error):
                raise
            self._log(error, look)
            return look
        return self._after_fetch()

    def refresh(self) -> Look:
        """A set newer than the current one.

        Raises:
            Exception: as :meth:`obtain`. The set that was there stays.
        """
        look = self.store.look()
        generation = 0 if look is None else look.generation
        outcome = self._stand(lambda seconds: self.store.stand_after(generation, seconds))
        if isinstance(outcome, Look):
            return outcome
        self._fetch(outcome)
        return self._after_fetch()

    def lasting(self, seconds: float) -> Look:
        """A set that is valid for so many seconds. One early call for all processes, and at most eight in the life of a
        set: a set that is younger than an eighth of its life is given as it is.

        Raises:
            BRSConfigurationError: the sets of this source do not live so long. The code is ``TooShort``.
            Exception: as :meth:`refresh`.
        """
        if self.store.lifetime() is None:
            # The first set tells how long sets live.
            self.obtain()
        while True:
            outcome = self._stand(lambda wait: self.store.stand_valid_for(self._within_life(seconds), wait))
            if isinstance(outcome, Look):
                return outcome
            self._fetch(outcome)

    def _within_life(self, seconds: float) -> float:
        """A set of an hour lives a moment less: its way here is taken off."""
        life = self.store.lifetime()
        if life is not None and life < seconds <= life + min(LEEWAY, life / 8):
            return life - 0.01
        return seconds

    def reject(self, access_key: str) -> bool:
        """Says that AWS refused the set with this key; see :meth:`Store.reject`."""
        first = self.store.reject(access_key)
        if first:
            logger.info("session %s: AWS rejected the set; the next request gets a new one", self.store.name)
        return first

    def _stand(self, stand: Callable[[float], Look | Term | None]) -> Look | Term:
        if source_calls.is_within(self):
            raise BRSConfigurationError(
                "The source uses the session that it is to give credentials to. Give it another session."
            )
        end = clock.now() + WAIT
        others_wait = greenlets.are_there()
        while True:
            left = end - clock.now()
            try:
                outcome = stand(0 if others_wait else max(0, min(left, SLICE)))
            except SourceFailed as failed:
                raise self._error_of(failed.back_off) from None
            if outcome is not None:
                return outcome
            if left <= 0:
                raise BRSConnectionError(
                    f"No valid set of the session {self.store.name} came within {WAIT:g} s. Another thread or process "
                    f"is elected to fetch it, and has not finished."
                )
            if others_wait:
                time.sleep(GEVENT_SLICE)

    def _fetch(self, term: Term) -> None:
        """Calls the source on this thread, and tells all what came of it."""
        try:
            with source_calls.of(self):
                fetched = self._source()
            term.publish(fetched)
        except BaseException as error:
            self._fail(term, error)
            raise
        self._own_failure = None
        self._tell_clamp(fetched)

    def _fail(self, term: Term, error: BaseException) -> None:
        if is_interrupt(error):
            # It is raised where it belongs, and not again at a later read.
            term.fail(Failure(TRANSIENT, f"the call of the source was interrupted by {type(error).__name__}"))
            return
        failure = failure_of(error)
        term.fail(failure)
        back_off = self.store.back_off()
        if back_off is not None and isinstance(error, Exception):
            self._own_failure = (back_off.number, failure, error)

    def _after_fetch(self) -> Look:
        look = self.store.look()
        # Another process may have been elected meanwhile, where the call took longer than the lease.
        return look if look is not None and look.state == FRESH else self.obtain()

    def _error_of(self, back_off: BackOff) -> Exception:
        own = self._own_failure
        if own is not None and own[0] == back_off.number:
            # Without the frames, whose variables may hold secrets.
            return own[2].with_traceback(None)
        return exception_of(back_off.failure, self._operation)

    def _log(self, error: Exception, look: Look) -> None:
        failure = failure_of(error)
        logger.warning(
            "session %s: the refresh failed (%s, %s); the set is valid for another %d s",
            self.store.name,
            failure.kind,
            failure.code or type(error).__name__,
            look.expires - time.time(),
        )

    def _tell_clamp(self, fetched: Fetched) -> None:
        lifetime = fetched.expires - time.time()
        if self._clamp_told or not self._windows.clamps(lifetime):
            return
        self._clamp_told = True
        BRSWarning.warn(
            f"'advisory_timeout' is {self._windows.advisory:g} s, and the set lives {lifetime:.0f} s: it is refreshed "
            f"in the second half of that, since a longer window would refresh it at each read."
        )
