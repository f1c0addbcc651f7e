"""Forks FORKS children, one after the other, while threads refresh without a pause. Each child reads and ends."""

import os
import signal
import sys
import threading
import time
import warnings

from reading import tell

import shmcreds

count = 0


def source():
    global count
    count += 1
    time.sleep(0.002)
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    return dict(access_key=f"KEY{count}", secret_key=f"S{count}", token=f"T{count}", expiry_time=expires)


# From 3.12 on Python warns of a fork beside threads: those of this program.
warnings.simplefilter("ignore", DeprecationWarning)
made = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
made.get_credentials().access_key
stop = threading.Event()


def refresh():
    while not stop.is_set():
        made.refresh()


threads = [threading.Thread(target=refresh) for _ in range(2)]
for thread in threads:
    thread.start()
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        frozen = made.get_credentials().get_frozen_credentials()
        os._exit(0 if frozen.secret_key[1:] == frozen.access_key[3:] == frozen.token[1:] else 7)
    status = os.waitpid(pid, 0)[1]
    assert status == 0, os.waitstatus_to_exitcode(status)
stop.set()
for thread in threads:
    thread.join()
tell(made.status()["generation"] > 1)
