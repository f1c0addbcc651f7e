"""What the programs of the tests share. The STS is told by the environment."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import shmcreds

ROLE = "arn:aws:iam::123456789012:role/app"


def session(**given: Any) -> Any:
    given.setdefault("engine", os.environ.get("TEST_ENGINE", "auto"))
    client = {"endpoint_url": os.environ["TEST_STS"], "region_name": "us-east-1"}
    return shmcreds.RefreshableSession(
        assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=client, **given
    )


def read_until(made: Any, generation: int, seconds: float = 60) -> dict[str, Any]:
    """Reads until a read gives that generation; gives the keys that were seen."""
    keys, end = set(), time.monotonic() + seconds
    while True:
        status = made.status()
        keys.add(made.get_credentials().get_frozen_credentials().access_key)
        if status["generation"] >= generation:
            return {"pid": os.getpid(), "keys": sorted(keys), "name": status["name"]}
        if time.monotonic() > end:
            raise TimeoutError(f"no generation {generation} in {seconds} s: {status}")
        time.sleep(0.02)


def tell(found: Any) -> None:
    """To the test. One write, so that lines of several processes stay apart."""
    os.write(1, json.dumps(found).encode() + b"\n")
