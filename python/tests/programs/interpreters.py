"""Sessions in the interpreters of ORDER, for example sub,main,sub: each sub is a new one, which ends. Each tells whether its set
is shared, and the error of a session that is not there."""

import os
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

CODE = """
import sys
sys.path[:] = {path}
import shmcreds
from reading import tell

def source():
    return dict(access_key="KEY", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")

made = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
key = made.get_credentials().access_key
try:
    error = shmcreds.SharedSession.attach("interpreters-absent-{pid}")
except shmcreds.BRSError as raised:
    error = type(raised).__name__
tell([{who!r}, key, made.status()["sharing"], made.status()["reason"], error])
""".format


def sub():
    made = interpreters.create("legacy") if sys.version_info >= (3, 13) else interpreters.create(isolated=False)
    run = getattr(interpreters, "exec", None) or interpreters.run_string
    # An exception of the code: raised, or given by later versions.
    assert run(made, CODE(path=sys.path, who="sub", pid=os.getpid())) is None
    interpreters.destroy(made)


for who in sys.argv[1].split(","):
    if who == "sub":
        sub()
    else:
        exec(CODE(path=sys.path, who="main", pid=os.getpid()))
