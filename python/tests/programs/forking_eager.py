"""Forks after an eager session and after a fetch: with -W error, a warning about threads would be an error."""

import os

from reading import session, tell

for eager in (False, True):
    made = session(defer_refresh=not eager, name=f"forking-eager-{os.getpid()}")
    key = made.get_credentials().access_key
    pid = os.fork()
    if pid == 0:
        os._exit(0 if made.get_credentials().access_key == key else 3)
    assert os.waitpid(pid, 0)[1] == 0
    assert not eager or made._obtainer.store.refreshes_itself or made._refresh_thread._thread.is_alive()
    made.unlink()
tell("no warning")
