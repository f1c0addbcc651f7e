"""Forks WORKERS children, which read until GENERATION."""

import os
import sys

from reading import read_until, session, tell

workers, generation = int(sys.argv[1]), int(sys.argv[2])
made = session()
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        tell(read_until(made, generation))
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
