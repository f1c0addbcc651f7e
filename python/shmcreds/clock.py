"""A clock that steps of the wall clock cannot move, and that goes on while the machine sleeps."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable

#: Seconds since some point in the past.
now: Callable[[], float]

if sys.platform == "linux" and hasattr(time, "CLOCK_BOOTTIME"):
    now = functools.partial(time.clock_gettime, time.CLOCK_BOOTTIME)
elif sys.platform == "darwin" and hasattr(time, "CLOCK_MONOTONIC"):
    # time.monotonic() stands still while a Mac sleeps; this clock does not.
    now = functools.partial(time.clock_gettime, time.CLOCK_MONOTONIC)
else:
    now = time.monotonic


def expiry_now(expires: float, left: float) -> float:
    """When a set expires by the wall clock as it is set now. ``expires`` is by the wall clock of its fetch, and ``left`` the
    seconds until then."""
    now = time.time() + left
    # Two reads of clocks, one after the other, differ by less.
    return expires if abs(now - expires) < 1.0 else now
