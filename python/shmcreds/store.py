"""Where the set of a session is kept: what an `Obtainer` needs of it."""

from typing import NamedTuple, Protocol

from botocore.credentials import ReadOnlyCredentials

from .failure import BackOff, Failure
from .policy import Windows

#: The states of a set. A rejected one is valid by its expiry, but AWS has refused it.
FRESH, ADVISORY, MANDATORY, REJECTED, EXPIRED = "fresh", "advisory", "mandatory", "rejected", "expired"


class Fetched(NamedTuple):
    """What the source gave. ``expires`` is in seconds of the Unix epoch."""

    access_key: str
    secret_key: str
    token: str
    expires: float
    account_id: str | None = None


class Look(NamedTuple):
    """The newest set, as it was at one moment."""

    frozen: ReadOnlyCredentials
    #: Seconds of the Unix epoch.
    expires: float
    state: str
    generation: int
    #: Seconds until the refresh point; below 0 after it.
    refresh_in: float


class Counters(NamedTuple):
    source_calls: int
    failures: int


class SourceFailed(Exception):
    """The newest failure, while it keeps all from asking the source again."""

    def __init__(self, back_off: BackOff) -> None:
        super().__init__()
        self.back_off = back_off


class Term(Protocol):
    """An election that this thread has won: no other process asks the source before it ends."""

    def publish(self, fetched: Fetched) -> None:
        """Ends it with a new set."""

    def fail(self, failure: Failure) -> None:
        """Ends it with a failure."""


class Store(Protocol):
    """One set, and who may replace it."""

    name: str
    #: ``host`` or ``process``.
    sharing: str
    #: Why the sharing is ``process``.
    reason: str
    #: Which code calls the source: ``python`` or ``native``.
    engine: str
    #: Whether a process of its own refreshes the set.
    refreshes_itself: bool

    def fresh(self) -> ReadOnlyCredentials | None:
        """The set, if it is fresh: the way of nearly all reads."""

    def look(self) -> Look | None:
        """The newest set; None where there is none yet."""

    def stand(self, seconds: float) -> Look | Term | None:
        """A set to use now; or the election of this thread, where the set is due and nobody else fetches. Waits for
        others at most so long; None when they had no set by then.

        Raises:
            SourceFailed: nothing valid is there, and the source must not be asked yet.
        """

    def stand_after(self, generation: int, seconds: float) -> Look | Term | None:
        """The same for a set of a later generation, whatever the age of that one.

        Raises:
            SourceFailed: the source must not be asked yet.
        """

    def stand_valid_for(self, needed: float, seconds: float) -> Look | Term | None:
        """As :meth:`stand`, for a set that is valid for ``needed`` seconds.

        Raises:
            BRSConfigurationError: the sets of this source do not live so long.
        """

    def lifetime(self) -> float | None:
        """For how many seconds the newest set was valid when it was fetched."""

    def back_off(self) -> BackOff | None:
        """The newest failure, while it keeps all from asking again."""

    def reject(self, access_key: str) -> bool:
        """Notes that AWS refused the set with this key. True for the first who says so of the newest."""

    def set_windows(self, windows: Windows) -> None:
        """The windows of the sets that this process publishes from now on."""

    def counters(self) -> Counters: ...

    def unlink(self) -> None:
        """Removes the name, so that nobody else finds the set."""
