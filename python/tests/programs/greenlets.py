"""Reads in one greenlet while another one ticks; tells the longest gap between two ticks.

KIND is fetches or waits, as in interrupted.py; lasts, which replaces a set that is too old for a URL; or constructs, which
makes an eager session.
"""

from gevent import monkey

monkey.patch_all()

import os  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402

import gevent  # noqa: E402
from reading import session, tell  # noqa: E402

kind = sys.argv[1]
made = session(advisory_timeout=1, mandatory_timeout=1)
made._sts_client  # Loads the models of botocore, which takes a moment.
read = lambda: made.get_credentials().access_key  # noqa: E731
if kind == "waits":
    pid = os.fork()
    if pid == 0:
        made.get_credentials().access_key
        os._exit(0)
    end = time.monotonic() + 20
    while made.status()["source_calls"] == 0:
        assert time.monotonic() < end
        time.sleep(0.01)
if kind == "lasts":
    made.get_credentials().access_key
    end = time.monotonic() + 20
    while made._obtainer.store.look().expires - time.time() > 5:
        assert time.monotonic() < end
        time.sleep(0.01)
    read = lambda: made.ensure_valid_for(5)["access_key"]  # noqa: E731
if kind == "constructs":
    read = lambda: session(defer_refresh=False, name=f"greenlets-{os.getpid()}").get_credentials().access_key  # noqa: E731
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
key = gevent.spawn(read).get()
done = True
ticking.join()
tell([key, max(gaps), len(gaps)])
