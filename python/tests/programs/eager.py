"""An eager session that nobody reads for SECONDS, in a process with MODULE imported. Then tells its status."""

import importlib
import sys
import time

from reading import session, tell

if len(sys.argv) > 2:
    importlib.import_module(sys.argv[2])
made = session(defer_refresh=False)
states = []
end = time.monotonic() + float(sys.argv[1])
while time.monotonic() < end:
    states.append(made.status()["state"])
    time.sleep(0.05)
tell({"states": sorted(set(states)), **made.status()})
