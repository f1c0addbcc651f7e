"""An eager session in a process with numpy and its threads. Waits for GENERATION without a read. Tells of
the refresher's process, the states that it saw, and the longest time for which this process was kept from running. Stays until
the file END is there."""

import os
import sys
import time

import numpy  # noqa: F401 - starts threads
from reading import session, tell

SECRET = "hush-of-the-parent-" + str(os.getpid())
os.environ["A_SECRET_OF_THE_SERVER"] = SECRET
kept = bytearray(SECRET.encode() * 1000)


def read(pid, name):
    with open(f"/proc/{pid}/{name}", "rb") as file:
        return file.read()


def memory_of(pid):
    """All readable private memory of the process."""
    with open(f"/proc/{pid}/mem", "rb") as memory:
        for line in read(pid, "maps").decode().splitlines():
            ends, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            begin, end = (int(end, 16) for end in ends.split("-"))
            try:
                memory.seek(begin)
                yield memory.read(end - begin)
            except OSError:
                continue


threads = len(os.listdir("/proc/self/task"))
made = session(defer_refresh=False)
refresher = made._obtainer.store._store.elected()
marks = sum(chunk.count(SECRET.encode() * 2) for chunk in memory_of(refresher))
told = {
    "threads": threads,
    "after": len(os.listdir("/proc/self/task")),
    "engine": made.status()["engine"],
    "refresher": refresher,
    "program": os.path.basename(os.readlink(f"/proc/{refresher}/exe")),
    "line": read(refresher, "cmdline").rstrip(b"\0").decode(),
    "environment": read(refresher, "environ").decode(),
    "libraries": [name for name in ("libpython", "_native", "numpy") if name.encode() in read(refresher, "maps")],
    "marks": marks,
    "name": made.status()["name"],
}
generation, states = int(sys.argv[1]), set()
last, pause, end = time.monotonic(), 0.0, time.monotonic() + 80
while made.status()["generation"] < generation:
    states.add(made.status()["state"])
    time.sleep(0.02)
    pause, last = max(pause, time.monotonic() - last), time.monotonic()
    assert last < end, made.status()
pid = os.fork()
if pid == 0:
    os._exit(0 if made.get_credentials().access_key else 3)
assert os.waitpid(pid, 0)[1] == 0
tell({**told, "states": sorted(states), "longest_pause": pause})
while len(sys.argv) > 2 and not os.path.exists(sys.argv[2]):
    assert time.monotonic() < end
    time.sleep(0.02)
