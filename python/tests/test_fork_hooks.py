"""What is done at a fork, and for which objects."""

from __future__ import annotations

import functools
import gc
import sys
import threading

from shmcreds import fork
from shmcreds.living import Living


class Thing:
    pass


def test_the_living_are_known():
    living, kept = Living(), [Thing(), Thing()]
    for thing in (*kept, Thing()):
        living.add(thing)
    del thing
    gc.collect()
    assert living.all() == kept


def test_others_may_be_added_meanwhile(request):
    # Threads take turns as often as they can.
    request.addfinalizer(functools.partial(sys.setswitchinterval, sys.getswitchinterval()))
    sys.setswitchinterval(1e-6)
    living, stop, kept = Living(), threading.Event(), [Thing() for _ in range(200)]
    for thing in kept:
        living.add(thing)

    def add():
        while not stop.is_set():
            living.add(Thing())

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        # A WeakSet raises RuntimeError: "Set changed size during iteration".
        assert all(living.all()[:200] == kept for _ in range(3000))
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)


def test_a_fork_while_the_interpreter_ends(make, monkeypatch):
    session = make(engine="python", defer_refresh=False)
    thread = session._refresh_thread._thread

    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    fork._before()
    assert not thread.is_alive()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    # From 3.12 on Python refuses that in functions of atexit.
    fork._in_parent()
    monkeypatch.undo()
    fork._in_parent()
    assert session._refresh_thread._thread.is_alive()
