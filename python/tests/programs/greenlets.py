"""Reads in one greenlet while another one ticks. Tells when it has ticked twenty times since the file CALLED is there, and then
the key, and the longest time for which the reading greenlet kept all others from running.

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
    while made._obtainer.store.look().expires - time.time() > 20:
        assert time.monotonic() < end
        time.sleep(0.01)
    read = lambda: made.ensure_valid_for(20)["access_key"]  # noqa: E731
if kind == "constructs":
    read = lambda: session(defer_refresh=False, name=f"greenlets-{os.getpid()}").get_credentials().access_key  # noqa: E731
waits = [0.0]
store = made._obtainer.store
stand, stand_valid_for = store.stand, store.stand_valid_for
store.stand = lambda seconds: waits.append(seconds) or stand(seconds)
if made.status()["engine"] == "python":  # The other one waits beside the greenlets.
    store.stand_valid_for = lambda needed, seconds: waits.append(seconds) or stand_valid_for(needed, seconds)


def tick():
    while not os.path.exists(sys.argv[2]):
        gevent.sleep(0.01)
    for _ in range(20):
        gevent.sleep(0.01)
    tell("ticks")


ticking = gevent.spawn(tick)
key = gevent.spawn(read).get()
ticking.join()
tell([key, max(waits)])
