"""Programs of tests, as processes of their own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"


def environment(sts_url: str = "", **more: str) -> dict[str, str]:
    paths = [str(PROGRAMS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "TEST_STS": sts_url, "PYTHONPATH": os.pathsep.join(paths), **more}


def start(program: str, *arguments: object, sts_url: str = "", options: tuple[str, ...] = (), **given: Any) -> Any:
    return subprocess.Popen(
        [sys.executable, *options, str(PROGRAMS / program), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(sts_url, **given),
    )


def finished(process: Any, seconds: float = 90) -> list[Any]:
    """What the program told. It must end well, in time, and without a word on its standard error."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the program did not end: {out}{err}") from None
    assert process.returncode == 0, f"{process.returncode}: {out}{err}"
    assert err == "", err
    return [json.loads(line) for line in out.splitlines()]


def run(program: str, *arguments: object, **given: Any) -> list[Any]:
    return finished(start(program, *arguments, **given))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def segments(name: str) -> list[str]:
    """What of a session is in /dev/shm."""
    return sorted(entry for entry in os.listdir("/dev/shm") if name in entry)
