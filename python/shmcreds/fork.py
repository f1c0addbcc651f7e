"""What happens to the objects of this package when the process forks."""

from __future__ import annotations

import os
import threading
import time
from typing import Protocol

from .living import Living


class Forkable(Protocol):
    """An object with something that does not survive a fork: a lock, a thread, a socket."""

    def before_fork(self) -> None:
        """In the parent process, before the fork. May wait a moment."""

    def after_fork_in_parent(self) -> None:
        """In the parent process, after the fork."""

    def after_fork_in_child(self) -> None:
        """In the child process, where only the thread that forked lives on. Must not wait."""


_known: Living[Forkable] = Living()


def watch(forkable: Forkable) -> None:
    """Calls the three methods at each fork, as long as the object lives."""
    _known.add(forkable)


def watched() -> list[Forkable]:
    """The objects that are told of forks and live."""
    return _known.all()


def _before() -> None:
    for forkable in _known.all():
        forkable.before_fork()


def _in_parent() -> None:
    for forkable in _known.all():
        forkable.after_fork_in_parent()


def _in_child() -> None:
    for forkable in _known.all():
        forkable.after_fork_in_child()


def wait_for_end(thread: threading.Thread, limit: float) -> None:
    """Waits until the thread has ended, also for the kernel, at most ``limit`` seconds.

    Until Python 3.12 ``join`` returns a moment before that. A fork would still count the thread: Python warns of it.
    """
    until = time.monotonic() + limit
    thread.join(limit)
    if thread.native_id == threading.get_native_id():
        # A greenlet that gevent runs in place of a thread.
        return
    while os.path.exists(f"/proc/self/task/{thread.native_id}") and time.monotonic() < until:
        time.sleep(0.0001)


# Absent on Windows, which has no fork.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
