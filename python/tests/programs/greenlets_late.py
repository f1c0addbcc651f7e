"""gevent patches after `shmcreds` is there. Five greenlets read a session whose source takes a moment."""

import warnings

import shmcreds  # noqa: F401 - this import comes first on purpose

from reading import tell

warnings.simplefilter("ignore")
from gevent import monkey  # noqa: E402

monkey.patch_all()

import gevent  # noqa: E402


def source():
    gevent.sleep(0.3)
    return dict(access_key="KEY", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


made = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
greenlets = [gevent.spawn(lambda: made.get_credentials().access_key) for _ in range(5)]
gevent.joinall(greenlets, timeout=60)
tell([greenlet.value for greenlet in greenlets])
tell(made.status()["source_calls"])
