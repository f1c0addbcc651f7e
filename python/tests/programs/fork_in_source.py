"""The source forks a child that lives on. Each process tells what it reads."""

import os

from reading import tell

import shmcreds

done = os.pipe()


def source():
    if os.fork() == 0:
        # It lives on when the source has given the set.
        os.read(done[0], 1)
        tell(["child", made.get_credentials().access_key])
        os._exit(0)
    return dict(access_key="KEY", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


made = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
tell(["parent", made.get_credentials().access_key])
os.write(done[1], b"x")
assert os.wait()[1] == 0
