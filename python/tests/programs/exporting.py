"""Exports the session and reads by the chain of a plain botocore session. HOW is the first argument."""

import json
import logging
import multiprocessing
import os
import subprocess
import sys
import time

import botocore.session
from reading import session, tell


def key_by_chain():
    """As a library with a chain of its own: it knows no session of shmcreds."""
    return botocore.session.Session().get_credentials().get_frozen_credentials().access_key


def child(made):
    return [key_by_chain(), made.credentials["access_key"], made._obtainer.store.name]


def plain():
    return [key_by_chain()]


def outcome_of(work):
    """What a forked child gives."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)
    with open(read) as told:
        text = told.read()
    assert os.waitpid(pid, 0)[1] == 0
    return json.loads(text)


def spawned(work, *given):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, given)


def children():
    made = session()
    export = made.export()
    command = "import botocore.session; print(botocore.session.Session().get_credentials().access_key)"
    program = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    tell(
        {
            "name": export.name,
            "here": [key_by_chain()],
            "fork": outcome_of(lambda: child(made)),
            "fork, made there": outcome_of(lambda: child(session())),
            "spawn": spawned(child, made),
            "spawn, made there": spawned(anew),
            "program": [program.stdout.strip()],
        }
    )


def anew():
    return child(session())


def hold():
    """Tells the endpoint, and stays until its standard input ends."""
    export = session().export()
    tell({"url": export.url, "token": os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"], "pid": export._joined.pid, "name": export.name})
    sys.stdin.read()


def replaced():
    """Exports, and lets another program take its place, which knows nothing of shmcreds."""
    export = session().export()
    tell({"pid": os.getpid(), "name": export.name})
    code = (
        "import botocore.session, json, os, sys;"
        "key = botocore.session.Session().get_credentials().access_key;"
        "print(json.dumps({'key': key, 'pid': os.getpid()}), flush=True);"
        "sys.stdin.read()"
    )
    os.execv(sys.executable, [sys.executable, "-c", code])


def orphan():
    """Exports and forks a child, which reads when this process is dead, until it has seen the last key."""
    made = session()
    made.export()
    parent = os.getpid()
    if os.fork():
        tell({"pid": parent})
        sys.stdin.read()
        return
    sys.stdin.close()
    while os.getppid() == parent:
        time.sleep(0.01)
    keys, end = [], time.monotonic() + 60
    while os.environ["TEST_LAST_KEY"] not in keys and time.monotonic() < end:
        key = key_by_chain()
        if key not in keys:
            keys.append(key)
        time.sleep(0.02)
    tell({"keys": keys, "name": made._obtainer.store.name})


def closes():
    """Closes all descriptors, as a daemon does, and opens others with their numbers."""
    logging.disable()
    made = session()
    made.export()
    os.closerange(3, 100)
    opened = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            key = key_by_chain()
            break
        except Exception:
            time.sleep(0.05)
    tell({"key": key, "intact": [os.readlink(f"/proc/self/fd/{number}") for number in opened] == ["/dev/null"] * 20})
    tell({"fork": outcome_of(plain), "name": made._obtainer.store.name})


if __name__ == "__main__":
    globals()[sys.argv[1]]()
