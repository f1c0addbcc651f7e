"""Forks after an eager session and after a fetch: with -W error, a warning about threads would be an error. The kernel lists
one thread at each fork."""

import os

threads = []
# Hooks are called in reverse order: this one after those of the package.
os.register_at_fork(before=lambda: threads.append(len(os.listdir("/proc/self/task"))))

from reading import session, tell  # noqa: E402

for eager in (False, True):
    made = session(defer_refresh=not eager, name=f"forking-eager-{os.getpid()}")
    key = made.get_credentials().access_key
    pid = os.fork()
    if pid == 0:
        os._exit(0 if made.get_credentials().access_key == key else 3)
    assert os.waitpid(pid, 0)[1] == 0
    assert not eager or made._obtainer.store.refreshes_itself or made._refresh_thread._thread.is_alive()
    made.unlink()
assert threads == [1, 1], threads
tell("no warning")
