"""Reads in one greenlet while another one ticks; tells the longest gap between two ticks. KIND as in interrupted.py."""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from reading import session, tell  # noqa: E402

made = session()
made._sts_client  # Loads the models of botocore, which takes a moment.
if sys.argv[1] == "waits":
    pid = os.fork()
    if pid == 0:
        made.get_credentials().access_key
        os._exit(0)
    end = time.monotonic() + 20
    while made.status()["source_calls"] == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
gaps, done = [], False


def tick():
    last = time.monotonic()
    while not done:
        gevent.sleep(0.01)
        now = time.monotonic()
        gaps.append(now - last)
        last = now


ticking = gevent.spawn(tick)
gevent.sleep(0.05)
key = gevent.spawn(lambda: made.get_credentials().access_key).get()
done = True
ticking.join()
tell([key, max(gaps), len(gaps)])
