"""When a set is refreshed, and when a failed refresh is tried again: arithmetic alone, in seconds.

The same rules as those of the Rust library; ``docs/DESIGN.md`` has them.
"""

import math
from typing import NamedTuple

from .exceptions import BRSValidationError, BRSWarning

MINUTE = 60.0
#: A set that AWS rejects is not replaced earlier than this after its fetch.
REJECTION_FLOOR = 5.0
#: How long callers wait for the set that takes the place of a rejected one. Then they get that one: a caller waits for 30 s in all.
REJECTED_WAIT = 29.0
LONGEST = 300.0
LONGEST_WITHOUT_A_SET = 5.0
#: The same when the source throttles.
LONGEST_THROTTLED_WITHOUT_A_SET = 60.0
#: The longest advisory window that the user can set, as a part of the lifetime.
LONGEST_WINDOW = 9 / 20
#: A set that is younger than this part of its life is not replaced for one that is valid for longer.
YOUNGEST_REPLACED = 1 / 8


class Windows(NamedTuple):
    """The refresh windows before expiry that the user sets, in seconds. None follows the lifetime."""

    advisory: float | None = None
    mandatory: float | None = None

    def advisory_of(self, lifetime: float) -> float:
        if self.advisory is not None:
            return min(self.advisory, lifetime * LONGEST_WINDOW)
        if lifetime <= 20 * MINUTE:
            window = 5 * MINUTE
        else:
            window = 15 * MINUTE if lifetime < 90 * MINUTE else 60 * MINUTE
        return min(window, lifetime / 3)

    def mandatory_of(self, lifetime: float) -> float:
        longest = math.inf if self.advisory is None else self.advisory
        window = min(MINUTE, longest) if self.mandatory is None else self.mandatory
        return min(window, lifetime / 10)

    def clamps(self, lifetime: float) -> bool:
        """Whether the advisory window that the user set is too long for the lifetime."""
        return self.advisory is not None and self.advisory > lifetime * LONGEST_WINDOW


class Points(NamedTuple):
    """The points in time at which a set changes its state."""

    advisory: float
    mandatory: float
    expires: float


def points(windows: Windows, now: float, lifetime: float, chance: float) -> Points:
    """The points of a set that was fetched at ``now``.

    A window that the user sets begins on time. Otherwise the advisory point is anywhere between the middle of the life
    and the window by the lifetime, so that hosts that started together refresh apart. ``chance``, from 0 to 1, chooses.
    """
    expires = now + lifetime
    window = windows.advisory_of(lifetime)
    room = max(lifetime / 2 - window, 0.0) if windows.advisory is None else 0.0
    mandatory = expires - windows.mandatory_of(lifetime)
    advisory = min(expires - window - room * chance, mandatory)
    return Points(advisory, mandatory, expires)


def next_attempt(kind: str, in_a_row: int, now: float, expires: float, chance: float) -> float:
    """When the source may be asked again after failure number ``in_a_row``. ``expires`` is that of the
    current set, 0 without one."""
    left = max(expires - now, 0.0)
    if kind in ("terminal", "misconfigured"):
        delay = LONGEST if left else LONGEST_WITHOUT_A_SET
        return now + min(delay, max(left, LONGEST_WITHOUT_A_SET))
    throttled = kind == "throttled"
    if left:
        # Another attempt comes before the set expires.
        longest, limit = LONGEST, max(left / 2, 0.5)
    else:
        longest = LONGEST_THROTTLED_WITHOUT_A_SET if throttled else LONGEST
        limit = LONGEST_THROTTLED_WITHOUT_A_SET if throttled else LONGEST_WITHOUT_A_SET
    ceiling = min(2.0 ** min(in_a_row - 1, 16), longest)
    # Full jitter, but never at once: that prevents bursts of calls.
    return now + min(max(ceiling * chance, 0.1), limit)


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
