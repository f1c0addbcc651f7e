"""A session for every library of a program: see :meth:`RefreshableSession.export`.

A process of the program ``shmcreds`` serves the session on 127.0.0.1, for all processes of the host that export it. It
ends with the last of them. Variables lead the libraries to it.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import subprocess
import threading
from typing import Any, NamedTuple

from . import before, fork, native_module
from .descriptors import Owned
from .exceptions import BRSConfigurationError
from .obtain import Obtainer
from .program import find_bin
from .refresh_thread import refresh_if_due, time_to_sleep

logger = logging.getLogger("shmcreds")

URI = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
_LARGEST_MESSAGE = 1 << 20
#: How long a fork waits for a call of the source in flight.
_FORK_WAIT = 1.0
#: The time between two attempts to start the endpoint again.
_PAUSE = 1.0
#: The longest time for joining. It takes this long only if a command that joins is stopped.
_JOIN_TIMEOUT = 60.0


class Joined(NamedTuple):
    """What the program tells of the endpoint."""

    pid: int
    #: The variables to set, and those to remove.
    set: dict[str, str]
    remove: list[str]
    #: As long as it is open, here or in a forked child, the endpoint serves.
    users: Owned
    #: A socket that keeps the port of the endpoint from other users, also while no process serves.
    port: Owned
    #: A pidfd of the process that serves; None where the kernel has none.
    server: Owned | None

    def close(self) -> None:
        self.users.close()
        self.port.close()
        if self.server is not None:
            self.server.close()

    def is_alive(self) -> bool:
        """Whether the endpoint serves, and knows of this process."""
        if not self.users.is_open() or not self.port.is_open():
            return False
        if self.server is not None:
            return self.server.is_open() and not _is_readable(0, self.server)
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    def continue_if_stopped(self) -> bool:
        """Continues the process that serves, if a SIGSTOP has stopped it: its clients would run into their time-outs."""
        if _state(self.pid) != "T" or not self.is_alive():
            return False
        if self.server is None:
            os.kill(self.pid, signal.SIGCONT)
        else:
            # By number it could be another process by now.
            signal.pidfd_send_signal(self.server.number, signal.SIGCONT)
        return True


def join(name: str) -> Joined:
    """Joins the endpoint of the session, or starts it.

    Raises:
        BRSConfigurationError: there is no program ``shmcreds``, or it cannot serve the session.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        try:
            done = subprocess.run(
                [find_bin(), "export", name],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=dict(before.environ()),
                timeout=_JOIN_TIMEOUT,
            )
        except subprocess.TimeoutExpired as error:
            late = f"`shmcreds export` did not end within {error.timeout:g} s; look for one that is stopped, and kill it"
            raise BRSConfigurationError(f"The session {name} cannot be exported: {late}") from None
        if done.returncode != 0:
            raise BRSConfigurationError(f"The session {name} cannot be exported: {done.stderr.strip()}")
        text, descriptors, _, _ = socket.recv_fds(ours, _LARGEST_MESSAGE, 3)
    told = json.loads(text)
    users, port, *server = map(Owned, descriptors)
    # A program that takes the place of this one by exec() keeps the endpoint and its port.
    for kept in (users, port):
        os.set_inheritable(kept.number, True)
    for watched in server:
        os.set_inheritable(watched.number, False)
    return Joined(told["pid"], told["set"], told["remove"], users, port, server[0] if server else None)


class Export:
    """An exported session, until :meth:`close`, the end of the ``with`` block, or the end of the process."""

    def __init__(self, obtainer: Obtainer, *, refreshes: bool) -> None:
        self._obtainer = obtainer
        self._uses = 0
        self._joined = join(obtainer.store.name)
        try:
            self._changed = self._change()
        except BaseException:
            self._joined.close()
            raise
        self._keeper = Keeper(self, refreshes=refreshes)
        self._keeper.start()

    @property
    def name(self) -> str:
        """The name of the session."""
        return self._obtainer.store.name

    @property
    def url(self) -> str:
        """The address of the endpoint."""
        return self._joined.set[URI]

    def _change(self) -> dict[str, str | None]:
        """Changes the variables. Gives the values that they had in this process."""
        inherited = before.note()
        new = {**dict.fromkeys(self._joined.remove), **self._joined.set}
        changed = {name: os.environ.get(name) for name, value in new.items() if os.environ.get(name) != value}
        aside = changed if inherited is None else {**changed, **inherited.variables}
        changed[before.VARIABLE] = os.environ.get(before.VARIABLE)
        os.environ[before.VARIABLE] = before.Note(self.name, aside).text()
        removed = sorted(name for name in self._joined.remove if changed.get(name) is not None)
        if removed:
            logger.info("session %s is exported; set aside: %s", self.name, ", ".join(removed))
        _put({name: new[name] for name in changed if name != before.VARIABLE})
        return changed

    def _serve_again(self) -> None:
        """Starts the endpoint again, or finds the one that a sibling has started."""
        joined = join(self.name)
        if joined.set[URI] != self.url:
            logger.warning(
                "session %s: the endpoint has another address, since a program has taken its port. Clients that have "
                "read the variables already must be made again.",
                self.name,
            )
        self._joined, old = joined, self._joined
        _put(dict(joined.set))
        old.close()

    def close(self) -> None:
        """Puts the variables back. The last process that does so ends the endpoint."""
        global _active
        with _lock:
            self._uses -= 1
            if self._uses > 0 or _active is not self:
                return
            _active = None
        self._keeper.close()
        new = {**dict.fromkeys(self._joined.remove), **self._joined.set}
        # What the program has changed meanwhile stays.
        _put(
            {
                name: value
                for name, value in self._changed.items()
                if name == before.VARIABLE or os.environ.get(name) == new.get(name)
            }
        )
        self._joined.close()

    def __enter__(self) -> Export:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Export of the session {self.name}>"


class Keeper:
    """A thread that refreshes in time, and starts the endpoint again when the process that serves was killed. It stops
    before each fork, and goes on after it in both processes."""

    def __init__(self, export: Export, *, refreshes: bool) -> None:
        self._export = export
        self._refreshes = refreshes
        self._closed = False
        self._thread: threading.Thread | None = None
        #: Closing the second one ends the thread.
        self._wake = _pipe()
        fork.watch(self)

    def start(self) -> None:
        self._wake = _pipe()
        self._thread = threading.Thread(target=self._run, name="shmcreds-export", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._thread = None
        self._wake[1].close()
        fork.wait_for_end(thread, _FORK_WAIT)

    def close(self) -> None:
        self._closed = True
        self.stop()

    def before_fork(self) -> None:
        self.stop()

    def after_fork_in_parent(self) -> None:
        if not self._closed and self._thread is None:
            self.start()

    def after_fork_in_child(self) -> None:
        self.after_fork_in_parent()

    def _run(self) -> None:
        own = self._wake[0]
        while self._thread is threading.current_thread():
            if not own.is_open():
                # Other code has closed all descriptors, as a daemon does.
                self._wake = _pipe()
                own = self._wake[0]
            if self._works():
                _is_readable(self._sleep(), own, self._export._joined.server)
            else:
                _is_readable(_PAUSE, own)
        own.close()

    def _works(self) -> bool:
        """Does what is due. False if that failed."""
        try:
            if self._refreshes:
                refresh_if_due(self._export._obtainer)
            if not self._export._joined.is_alive():
                self._export._serve_again()
            elif self._export._joined.continue_if_stopped():
                logger.warning("session %s: the endpoint was stopped (SIGSTOP) and is continued", self._export.name)
        except Exception as error:
            logger.warning("session %s: the endpoint could not be started again: %s", self._export.name, error)
            return False
        return True

    def _sleep(self) -> float:
        return time_to_sleep(self._export._obtainer.store) if self._refreshes else 1.0


def _state(pid: int) -> str:
    """The state of a process, as `ps` tells it; nothing if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][:1]
    except OSError:
        return ""


def _pipe() -> tuple[Owned, Owned]:
    read, write = os.pipe()
    return Owned(read), Owned(write)


def _is_readable(seconds: float, *descriptors: Owned | None) -> bool:
    """Waits until one of them is."""
    poll = select.poll()
    for descriptor in descriptors:
        if descriptor is not None and descriptor.is_open():
            poll.register(descriptor.number, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _put(variables: dict[str, str | None] | dict[str, str]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


_active: Export | None = None
_lock = threading.RLock()


class _Lock:
    def before_fork(self) -> None: ...

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        # Another thread of the parent may have had it.
        global _lock
        _lock = threading.RLock()


_lock_watch = _Lock()
fork.watch(_lock_watch)


def export(obtainer: Obtainer, *, refreshes: bool = True) -> Export:
    """Exports the session with that obtainer, for this process and its children.

    Raises:
        BRSConfigurationError: the session has no name, another one is exported, or it cannot be served.
        Exception: what the source raised, where there is no set yet.
    """
    global _active
    native_module.require("export()")
    name = obtainer.store.name
    with _lock:
        inherited = before.note()
        if inherited is not None and inherited.session != name:
            raise BRSConfigurationError(
                f"The session {inherited.session} is exported already, and the variables can lead to one session. End "
                f"that export first, or give {name} to each library by shmcreds.integrations."
            )
        if _active is None:
            if refreshes:
                obtainer.obtain()
            _pin_all()
            _active = Export(obtainer, refreshes=refreshes)
        _active._uses += 1
        return _active


def keep(obtainer: Obtainer) -> None:
    """Goes on with an export that this process has inherited, if it is that of the session."""
    inherited = before.note()
    if _active is None and inherited is not None and inherited.session == obtainer.store.name:
        export(obtainer)


def _pin_all() -> None:
    """Who fetches the sets of the sessions of this process stays the same."""
    from .session import RefreshableSession

    for known in fork.watched():
        if isinstance(known, RefreshableSession):
            known._pin()
