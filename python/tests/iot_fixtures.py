"""An authority and an IoT endpoint, for the modules that import these fixtures. Others do without `cryptography`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import Authority
from local_iot import IotServer


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def server(authority: Authority, tmp_path: Path) -> Iterator[IotServer]:
    made = IotServer(authority, tmp_path)
    yield made
    made.close()
