"""Forks WORKERS children at once, with a source that is a function. Each call leaves a line in CALLS."""

import os
import sys
import time

from reading import tell

import shmcreds

workers, calls = int(sys.argv[1]), sys.argv[2]


def source():
    with open(calls, "a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(0.2)
    return dict(access_key=f"KEY{os.getpid()}", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


made = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        tell(made.get_credentials().access_key)
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
