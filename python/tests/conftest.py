from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from local_sts import ROLE, LocalSts

import shmcreds
from shmcreds import native_module
from shmcreds.program import own_program

NATIVE = not native_module.absence()
PROGRAM = NATIVE and own_program() is not None
HSM = shutil.which("softhsm2-util") is not None
TORCH = importlib.util.find_spec("torch") is not None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "host: needs a store that all processes of the host share")
    config.addinivalue_line("markers", "hsm: needs SoftHSM, a PKCS#11 module in software")
    config.addinivalue_line("markers", "torch: needs torch, which is too large to be installed for the tests")
    config.addinivalue_line("markers", "program: needs the program `shmcreds`, which published wheels contain")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests of what this installation does not have are left out, and counted as left out."""
    for marker, there in (("host", NATIVE), ("program", PROGRAM), ("hsm", HSM), ("torch", TORCH)):
        left_out = [item for item in items if not there and item.get_closest_marker(marker)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's AWS settings but these. A HOME of its own gives each test names of its own."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIABASE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "base-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def own_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for the sessions of this test alone. In `/dev/shm` those of other programs remove what the dead have left."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm", prefix="python-test-"))
    monkeypatch.setenv("SHMCREDS_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def sts() -> Iterator[LocalSts]:
    with LocalSts() as server:
        yield server


@pytest.fixture
def make(sts: LocalSts) -> Callable[..., Any]:
    """Makes a session of the role at the local STS."""

    def session(**given: Any) -> Any:
        role = {"RoleArn": ROLE, **given.pop("role", {})}
        client = {**sts.client, **given.pop("client", {})}
        return shmcreds.RefreshableSession(assume_role_kwargs=role, sts_client_kwargs=client, **given)

    return session
