"""gevent: while one greenlet waits, the others run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def are_there() -> bool:
    """Whether gevent runs other greenlets while this one sleeps."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("time"))


def beside(function: Callable[..., Any], *given: Any) -> Any:
    """The result of a function that waits in the native module, which gevent does not see."""
    if not are_there():
        return function(*given)
    import gevent

    return gevent.get_hub().threadpool.apply(function, given)
