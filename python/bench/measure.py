"""Measures the installed package beside its peers, and prints one line of JSON for each figure.

    bench/measure.py [--peer PYTHON] [--elhaz PROGRAM] [--only PART…]

PYTHON is an interpreter that has boto3-refresh-session, and PROGRAM is the command of the package elhaz. Nothing is compared
with a limit here: figures of a busy machine are worth little, so each part measures its peers in the same run.
`bench/plot.py` draws the plots of the README from the output. Needs the `test` extra, and a release build.
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
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

import fleet  # noqa: E402
from local_sts import ROLE, LocalSts  # noqa: E402
from support import run  # noqa: E402
from waiting import until  # noqa: E402

WORKERS = 64
PARTS = ("imports", "reads", "constructor", "memory", "fleet")


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

    plain = best(boto3.Session, 20) / 1000
    tell("constructor", "boto3.Session", plain, "ms")
    client = {"endpoint_url": url, "region_name": "us-east-1"}
    make = lambda: shmcreds.RefreshableSession(  # noqa: E731
        assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client
    )
    keep = make()
    keep.get_credentials().access_key
    ours = best(make, 20) / 1000
    tell("constructor, warm", "shmcreds", ours, "ms")
    # Most of it is boto3.Session itself, which no subclass can leave out.
    tell("constructor, warm, beyond boto3.Session", "shmcreds", ours - plain, "ms")


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


def elhaz(program: str, url: str) -> None:
    """A daemon whose sets come by `credential_process`: a program for each set of each process, which botocore then keeps.
    Beside it `shmcreds credentials`, the same for a session that is there."""
    import shmcreds

    config = Path.home() / ".elhaz/configs/app.yaml"
    config.parent.mkdir(parents=True)
    role = {"RoleArn": ROLE, "RoleSessionName": "elhaz"}
    config.write_text(json.dumps({"AssumeRole": role, "STS": {"endpoint_url": url, "region_name": "us-east-1"}}))
    client = {"endpoint_url": url, "region_name": "us-east-1"}
    session = shmcreds.RefreshableSession(assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client)
    session.get_credentials().access_key
    own = [shmcreds.find_bin(), "credentials", session.status()["name"]]
    other = [program, "export", "--format", "credential-process", "--name", "app"]
    # It waits 5 s for the daemon, which is not enough on a busy machine.
    subprocess.run([program, "daemon", "start"], check=False, capture_output=True)
    try:
        until(lambda: subprocess.run(other, check=False, capture_output=True).returncode == 0, 60)
        for who, command in (("elhaz", other), ("shmcreds", own)):
            quickest = min(_milliseconds(command) for _ in range(5))
            tell("a set for another program, by credential_process", who, quickest, "ms")
    finally:
        subprocess.run([program, "daemon", "stop"], check=True, capture_output=True)


def _milliseconds(command: list[str]) -> float:
    """The time of the processor for a program, from start to exit."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "AccessKeyId" in said, said
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


IMPORTS = """
import boto3, boto3.session, botocore.session, time
b = time.process_time(); {code}; print((time.process_time() - b) * 1000)
"""


def imports() -> None:
    for code in ("import shmcreds", "from shmcreds import RefreshableSession"):
        tell(f"{code}, beyond boto3", "shmcreds", min(float(_run(IMPORTS.format(code=code))) for _ in range(7)), "ms")


def _run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def memory(url: str) -> None:
    """A worker's private memory beyond that of one with static keys, which makes the same client."""
    sizes = {
        who: min(run("memory.py", who, sts_url=url)[0] for _ in range(3))
        for who in ("static keys", "shmcreds", "an STS client each")
    }
    for who in ("shmcreds", "an STS client each"):
        tell("memory of a worker, beyond static keys", who, (sizes[who] - sizes["static keys"]) / 1000, "MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="an interpreter that has boto3-refresh-session")
    parser.add_argument("--elhaz", help="the command of the package elhaz")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    options = parser.parse_args()
    # Of a fork beside the threads of the local STS.
    warnings.simplefilter("ignore", DeprecationWarning)
    with tempfile.TemporaryDirectory() as home, LocalSts() as server:
        os.environ.update(HOME=home, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="s", AWS_DEFAULT_REGION="us-east-1")
        if "imports" in options.only:
            imports()
        # Before the parts that leave a set in the session: a server that finds one makes no client before it forks, and then
        # each worker loads what botocore needs for its first one, 8 MB, as without this package.
        if "memory" in options.only:
            memory(server.url)
        if "reads" in options.only:
            reads(server.url)
        if "constructor" in options.only:
            constructor(server.url)
        if options.peer:
            peer(options.peer, server.url)
        if options.elhaz:
            elhaz(options.elhaz, server.url)
        if "fleet" in options.only:
            for workers in (1, 8, WORKERS):
                for of in (fleet.shmcreds, fleet.botocore, fleet.static):
                    of(tell, server, workers)


if __name__ == "__main__":
    main()
