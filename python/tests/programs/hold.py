"""Reads once, tells its key, and stays until its standard input ends. HOW it ends is told by the argument."""

import os
import sys

from reading import session, tell

how = sys.argv[1] if len(sys.argv) > 1 else "exit"
made = session()
tell({"key": made.get_credentials().access_key, "pid": os.getpid(), **made.status()})
sys.stdin.read()
if how == "_exit":
    os._exit(0)
