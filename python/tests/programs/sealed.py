"""A sealed session: workers that have become another user read it."""

import os
import pickle

from reading import session, tell

made = session(defer_refresh=False, sealed=True)
told = {"status": made.status(), "key": made.get_credentials().access_key}
try:
    pickle.dumps(made)
except TypeError as error:
    told["pickle"] = str(error)
reader, writer = os.pipe()
pid = os.fork()
if pid == 0:
    os.setgid(65534)
    os.setuid(65534)
    os.write(writer, f"{os.getuid()} {made.get_credentials().access_key}".encode())
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
told["worker"] = os.read(reader, 1000).decode()
told["refreshed"] = made.refresh()["access_key"]
told["files"] = [name for name in os.listdir("/dev/shm") if made.status()["name"] in name]
tell(told)
