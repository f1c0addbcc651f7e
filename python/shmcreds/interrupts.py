"""Exceptions that interrupt a call of the source, and are none of the source: they are for the code that reads."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from types import CodeType
from typing import Any


def is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C, the end of the program or of a greenlet; or a handler of a signal raised it, for example that of
    a time limit of Celery."""
    if not isinstance(error, Exception):
        return True
    traceback = error.__traceback__
    raised_in = set()
    while traceback is not None:
        raised_in.add(traceback.tb_frame.f_code)
        traceback = traceback.tb_next
    return any(code in raised_in for code in _handlers())


def _handlers() -> Iterator[CodeType]:
    """The code of each handler of a signal in Python."""
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        if not callable(handler) or isinstance(handler, signal.Handlers):
            continue
        if not hasattr(handler, "__code__") and not hasattr(handler, "__func__"):
            handler = type(handler).__call__
        code = getattr(getattr(handler, "__func__", handler), "__code__", None)
        if code is not None:
            yield code
