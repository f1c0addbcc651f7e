"""When a set is refreshed, and when a failed refresh is tried again: arithmetic alone, in seconds.

The same rules as those of the Rust library; ``docs/DESIGN.md`` has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from .exceptions import BRSValidationError, BRSWarning

MINUTE = 60.0
#: A set that AWS rejects is not replaced earlier than this after its fetch.
REJECTION_FLOOR = 5.0
LONGEST = 300.0
LONGEST_WITHOUT_A_SET = 5.0


@dataclass(frozen=True)
class Windows:
    """The refresh windows before expiry that the user sets, in seconds. None follows the lifetime."""

    advisory: float | None = None
    mandatory: float | None = None

    def advisory_of(self, lifetime: float) -> float:
        if self.advisory is not None:
            return self.advisory
        if lifetime <= 20 * MINUTE:
            return 5 * MINUTE
        return 15 * MINUTE if lifetime < 90 * MINUTE else 60 * MINUTE

    def mandatory_of(self, lifetime: float) -> float:
        longest = math.inf if self.advisory is None else self.advisory
        window = min(MINUTE, longest) if self.mandatory is None else self.mandatory
        return min(window, lifetime / 10)

    def clamps(self, lifetime: float) -> bool:
        """Whether the advisory window that the user set is longer than half of the lifetime."""
        return self.advisory is not None and self.advisory > lifetime / 2


class Points(NamedTuple):
    """The points in time at which a set changes its state."""

    advisory: float
    mandatory: float
    expires: float


def points(windows: Windows, now: float, lifetime: float, chance: float) -> Points:
    """``chance``, from 0 to 1, shortens the advisory window by up to a tenth. The window never opens in the
    first half of the lifetime."""
    expires = now + lifetime
    window = min(windows.advisory_of(lifetime), lifetime / 2)
    mandatory = expires - windows.mandatory_of(lifetime)
    advisory = min(expires - window * (1 - 0.1 * chance), mandatory)
    return Points(advisory, mandatory, expires)


def next_attempt(kind: str, in_a_row: int, now: float, expires: float, chance: float) -> float:
    """When the source may be asked again after failure number ``in_a_row``. ``expires`` is that of the
    current set, 0 without one."""
    if kind in ("terminal", "misconfigured"):
        delay = LONGEST_WITHOUT_A_SET if expires <= now else LONGEST
    else:
        ceiling = min(2.0 ** min(in_a_row - 1, 16), LONGEST)
        # Full jitter, but never at once: that prevents bursts of calls.
        delay = max(ceiling * chance, 0.1)
    return min(now + delay, max(expires, now + LONGEST_WITHOUT_A_SET))


def windows_of(advisory: float | None, mandatory: float | None) -> Windows:
    """The windows of a session's arguments.

    Raises:
        BRSValidationError: one is no number of seconds above zero.
    """
    for param, value in (("advisory_timeout", advisory), ("mandatory_timeout", mandatory)):
        if value is None:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 < value < math.inf:
            raise BRSValidationError(
                f"{param!r} is not a number of seconds above 0.", param=param, value=value
            )
    if advisory is not None and mandatory is not None and mandatory > advisory:
        BRSWarning.warn(
            f"'mandatory_timeout' ({mandatory} s) is longer than 'advisory_timeout' ({advisory} s), "
            f"which is taken for both.",
            stacklevel=4,
        )
        mandatory = advisory
    return Windows(
        None if advisory is None else float(advisory),
        None if mandatory is None else float(mandatory),
    )
