"""An eager session that nobody reads, in a process with MODULE imported, until GENERATION. Tells its status, the state of the
set at each call of the source, and the longest time for which this process was kept from running."""

import importlib
import sys
import time

from reading import session, tell

import shmcreds

generation = int(sys.argv[1])
if len(sys.argv) > 2:
    importlib.import_module(sys.argv[2])
states = []
fetch = shmcreds.RefreshableSession._fetch


def remembering(made):
    look = made._obtainer.store.look()
    if look is not None:
        states.append(look.state)
    return fetch(made)


shmcreds.RefreshableSession._fetch = remembering
made = session(defer_refresh=False)
last, pause, end = time.monotonic(), 0.0, time.monotonic() + 80
while made.status()["generation"] < generation:
    time.sleep(0.02)
    pause, last = max(pause, time.monotonic() - last), time.monotonic()
    assert last < end, (made.status(), states)
tell({"states": states, "longest_pause": pause, **made.status()})
