"""Measures the installed package beside its peers, and prints one line of JSON for each figure.

    bench/measure.py [--peer PYTHON]

PYTHON is an interpreter that has boto3-refresh-session. Nothing is compared with a limit here: figures of a busy machine
are worth little. Needs the `test` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from local_sts import ROLE, LocalSts  # noqa: E402

WORKERS = 64


def tell(what: str, who: str, value: float, unit: str) -> None:
    print(json.dumps({"what": what, "who": who, "value": round(value, 4), "unit": unit}), flush=True)


def best(function, repeat: int, rounds: int = 7) -> float:
    """Microseconds of a call, of the quickest round: of the process's own time, so that other programs do not count."""
    quickest = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        for _ in range(repeat):
            function()
        quickest = min(quickest, time.process_time() - begin)
    return quickest / repeat * 1e6


def sessions(url: str):
    import boto3
    from botocore.credentials import RefreshableCredentials

    import shmcreds

    client = {"endpoint_url": url, "region_name": "us-east-1"}
    ours = shmcreds.RefreshableSession(assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client)
    static = boto3.Session("AKIA", "secret", "token", region_name="us-east-1")
    refreshable = boto3.Session(region_name="us-east-1")
    metadata = {"access_key": "A", "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00Z"}
    refreshable._session._credentials = RefreshableCredentials.create_from_metadata(metadata, lambda: metadata, "x")
    return {"static keys": static, "RefreshableCredentials": refreshable, "shmcreds": ours}


def reads(url: str) -> None:
    for who, session in sessions(url).items():
        credentials = session.get_credentials()
        tell("get_frozen_credentials", who, best(credentials.get_frozen_credentials, 20_000), "us")
    for who, session in sessions(url).items():
        presign = session.client("s3", region_name="us-east-1").generate_presigned_url
        call = lambda: presign("get_object", Params={"Bucket": "b", "Key": "k"})  # noqa: E731
        tell("generate_presigned_url", who, best(call, 500), "us")


def constructor(url: str) -> None:
    import boto3

    import shmcreds

    tell("constructor", "boto3.Session", best(boto3.Session, 20) / 1000, "ms")
    client = {"endpoint_url": url, "region_name": "us-east-1"}
    make = lambda: shmcreds.RefreshableSession(  # noqa: E731
        assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client
    )
    keep = make()
    keep.get_credentials().access_key
    tell("constructor, warm", "shmcreds", best(make, 20) / 1000, "ms")


PEER = """
import sys, time
from boto3_refresh_session import RefreshableSession
client = {"endpoint_url": sys.argv[1], "region_name": "us-east-1"}
make = lambda: RefreshableSession(assume_role_kwargs={"RoleArn": sys.argv[2]}, sts_client_kwargs=client)
keep = make()
times = []
for _ in range(7):
    begin = time.process_time(); make(); times.append(time.process_time() - begin)
print(min(times) * 1000)
credentials = keep.get_credentials()
credentials.access_key
best = 9
for _ in range(7):
    begin = time.process_time()
    for _ in range(20000): credentials.get_frozen_credentials()
    best = min(best, time.process_time() - begin)
print(best / 20000 * 1e6)
"""


def peer(python: str, url: str) -> None:
    said = subprocess.run([python, "-c", PEER, url, ROLE], capture_output=True, text=True, check=True).stdout.split()
    tell("constructor, warm", "boto3-refresh-session", float(said[0]), "ms")
    tell("get_frozen_credentials", "boto3-refresh-session", float(said[1]), "us")


IMPORTS = "import {first}, time; b = time.process_time(); import shmcreds; print((time.process_time() - b) * 1000)"


def imports() -> None:
    runs = []
    for _ in range(5):
        program = IMPORTS.format(first="boto3, boto3.session, botocore.session, boto3_client_cache")
        runs.append(float(subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout))
    tell("import, beyond boto3 and boto3_client_cache", "shmcreds", min(runs), "ms")


def fleet(url: str, server: LocalSts) -> None:
    """Calls, the slowest read and the memory of WORKERS processes, over the first set and three more."""
    import shmcreds

    server.lifetime = 6.0
    server.calls.clear()
    client = {"endpoint_url": url, "region_name": "us-east-1"}
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    session = shmcreds.RefreshableSession(
        assume_role_kwargs={"RoleArn": ROLE, "RoleSessionName": "fleet"}, sts_client_kwargs=client, defer_refresh=False
    )
    with tempfile.TemporaryDirectory() as folder:
        children = [_worker(session, Path(folder)) for _ in range(WORKERS)]
        while session.status()["generation"] < 4:
            time.sleep(0.05)
        Path(folder, "stop").touch()
        for child in children:
            os.waitpid(child, 0)
        told = [json.loads(path.read_text()) for path in Path(folder).glob("*.json")]
    tell(f"STS calls, {WORKERS} workers, first set and 3 refreshes", "shmcreds", len(server.calls), "calls")
    # With more workers than cores, a read on the wall clock may contain the turns of other processes.
    for clock, shown in (("wall", "wall clock"), ("own", "time of its thread")):
        slowest = max(worker["slowest"][clock] for worker in told) * 1000
        tell(f"slowest read of {WORKERS} workers while refreshing, {shown}", "shmcreds", slowest, "ms")
    tell("memory of the session in its process", "shmcreds",
         (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) / 1024, "MiB")  # fmt: skip
    keys = {key for worker in told for key in worker["keys"]}
    assert len(told) == WORKERS and len(keys) == len(server.calls), (len(told), keys, len(server.calls))


def _worker(session, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    slowest, keys, stop = {"wall": 0.0, "own": 0.0}, set(), folder / "stop"
    credentials = session.get_credentials()
    while not stop.exists():
        wall, own = time.perf_counter(), time.thread_time()
        keys.add(credentials.get_frozen_credentials().access_key)
        slowest["own"] = max(slowest["own"], time.thread_time() - own)
        slowest["wall"] = max(slowest["wall"], time.perf_counter() - wall)
        time.sleep(0.005)
    (folder / f"{os.getpid()}.json").write_text(json.dumps({"slowest": slowest, "keys": sorted(keys)}))
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="an interpreter that has boto3-refresh-session")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, LocalSts() as server:
        os.environ.update(HOME=home, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="s", AWS_DEFAULT_REGION="us-east-1")
        imports()
        reads(server.url)
        constructor(server.url)
        if options.peer:
            peer(options.peer, server.url)
        fleet(server.url, server)


if __name__ == "__main__":
    main()
