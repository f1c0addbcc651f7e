"""Reads in the process KIND (the one that fetches, another one, or one that constructs an eager session), and is interrupted
by a SIGINT. Tells the longest time for which it was ready to wait at a stretch."""

import os
import signal
import sys
import time

from reading import session, tell

# What a shell starts in the background ignores it.
signal.signal(signal.SIGINT, signal.default_int_handler)
made = None if sys.argv[1] == "constructs" else session()
if sys.argv[1] == "waits":
    pid = os.fork()
    if pid == 0:
        # It fetches, and is not interrupted.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        made.get_credentials().access_key
        os._exit(0)
    end = time.monotonic() + 20
    while made.status()["source_calls"] == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
waits = [0.0]
if made is not None:
    store = made._obtainer.store
    stand = store.stand
    store.stand = lambda seconds: waits.append(seconds) or stand(seconds)
tell("reads")
try:
    (made or session(defer_refresh=False)).get_credentials().access_key
except KeyboardInterrupt:
    tell(max(waits))
if sys.argv[1] == "waits":
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
