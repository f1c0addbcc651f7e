"""Which sources this code runs in. A source that read its own session would wait for itself."""

from __future__ import annotations

import contextlib
import contextvars
import os
from collections.abc import Iterator


class _Call:
    """One call of a source. Copies of the context in which it runs outlive it."""

    def __init__(self, owner: object) -> None:
        self.owner = owner
        self.pid = os.getpid()
        self.is_over = False


#: A context, since gevent gives each greenlet one of its own, also where it has not patched `threading.local`.
_calls: contextvars.ContextVar[tuple[_Call, ...]] = contextvars.ContextVar("shmcreds_calls", default=())


@contextlib.contextmanager
def of(owner: object) -> Iterator[None]:
    """The body calls the source of that owner."""
    call = _Call(owner)
    token = _calls.set((*_calls.get(), call))
    try:
        yield
    finally:
        call.is_over = True
        _calls.reset(token)


def is_within(owner: object) -> bool:
    """Whether this code runs in a call of the source of that owner. Not in a child that the source has forked."""
    calls = _calls.get()
    return any(call.owner is owner and not call.is_over and call.pid == os.getpid() for call in calls)
