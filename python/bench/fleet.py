"""Many workers that read while the set is replaced under them: calls of STS, and the slowest read."""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from local_sts import ROLE, LocalSts

#: The life of a set, the sets that each fleet sees, and how long a worker sleeps between two reads.
LIFETIME, GENERATIONS, PAUSE = 6.0, 4, 0.1
Tell = Callable[[str, str, float, str], None]


class Slowest:
    """The slowest read of this thread: on the wall clock, without its waits for a core, and on the core alone."""

    def __init__(self) -> None:
        self._schedstat = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
        self.wall = self.without_queue = self.own = 0.0

    def _queued(self) -> float:
        """For how long other processes had the core that this thread could have used."""
        return int(os.pread(self._schedstat, 100, 0).split()[1]) / 1e9

    def time(self, read: Callable[[], str]) -> str:
        queued, own, wall = self._queued(), time.thread_time(), time.perf_counter()
        key = read()
        wall, own = time.perf_counter() - wall, time.thread_time() - own
        queued = self._queued() - queued
        self.wall, self.own = max(self.wall, wall), max(self.own, own)
        self.without_queue = max(self.without_queue, wall - queued)
        return key


def shmcreds(tell: Tell, server: LocalSts, workers: int) -> None:
    """An eager session, which is made before the workers."""
    _reset(server, short_sets=GENERATIONS - 1)
    from shmcreds import RefreshableSession

    session = RefreshableSession(
        assume_role_kwargs={"RoleArn": ROLE, "RoleSessionName": f"fleet-{workers}"},
        sts_client_kwargs=server.client,
        defer_refresh=False,
    )
    credentials = session.get_credentials()
    keys = _measured(tell, "shmcreds", workers, lambda: credentials)
    assert len(keys) == GENERATIONS and len(server.calls) == GENERATIONS, (keys, len(server.calls))
    # Its refresher must not call the server of the next fleet.
    session._obtainer.store.leave()
    tell(f"STS calls, {workers} workers, first set and 3 refreshes", "shmcreds", len(server.calls), "calls")
    tell("engine of the eager session", session.status()["engine"], 1, "session")


def botocore(tell: Tell, server: LocalSts, workers: int) -> None:
    """Each worker has refreshable credentials of botocore."""
    _reset(server, short_sets=None)

    def made() -> Any:
        import boto3
        from botocore.credentials import DeferredRefreshableCredentials, create_assume_role_refresher

        client = boto3.client("sts", **server.client)
        refresh = create_assume_role_refresher(client, {"RoleArn": ROLE, "RoleSessionName": "alone"})
        credentials = DeferredRefreshableCredentials(refresh, "alone")
        # By default it would refresh a set of 6 s at each read.
        credentials._advisory_refresh_timeout, credentials._mandatory_refresh_timeout = 2, 1
        credentials.get_frozen_credentials()  # The first one loads the models of STS.
        return credentials

    _measured(tell, "RefreshableCredentials", workers, made)
    tell(f"STS calls, {workers} workers, first set and 3 refreshes", "RefreshableCredentials", len(server.calls), "calls")


def static(tell: Tell, server: LocalSts, workers: int) -> None:
    """Keys that nobody refreshes: what the machine adds to any read."""
    from botocore.credentials import Credentials

    end = time.monotonic() + LIFETIME * GENERATIONS / 2
    _measured(tell, "static keys", workers, lambda: Credentials("AKIA", "secret", "token"), until=end)


def _reset(server: LocalSts, short_sets: int | None) -> None:
    server.calls.clear()
    server.lifetime, server.short_sets = LIFETIME, short_sets


def _measured(tell: Tell, who: str, workers: int, made: Callable[[], Any], until: float = math.inf) -> set[str]:
    """Forks the workers, which read until they have seen each set, or until that moment. Gives the keys that they saw."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        children = [_forked(folder, made, until) for _ in range(workers)]
        assert all(os.waitpid(child, 0)[1] == 0 for child in children)
        told = [json.loads(path.read_text()) for path in folder.iterdir()]
    assert len(told) == workers
    for clock, shown in (
        ("wall", "wall clock"),
        ("without_queue", "without its waits for a core"),
        ("own", "time of its thread"),
    ):
        slowest = max(worker[clock] for worker in told) * 1000
        tell(f"slowest read of {workers} workers while refreshing, {shown}", who, slowest, "ms")
    return {key for worker in told for key in worker["keys"]}


def _forked(folder: Path, made: Callable[[], Any], until: float) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        credentials, slowest, keys = made(), Slowest(), set()
        # Workers that start at one moment would read at one moment.
        time.sleep(os.getpid() % 100 / 100 * PAUSE)
        while len(keys) < GENERATIONS and time.monotonic() < until:
            keys.add(slowest.time(lambda: credentials.get_frozen_credentials().access_key))
            time.sleep(PAUSE)
        told = {"wall": slowest.wall, "without_queue": slowest.without_queue, "own": slowest.own}
        (folder / str(os.getpid())).write_text(json.dumps({**told, "keys": sorted(keys)}))
        status = 0
    finally:
        os._exit(status)
