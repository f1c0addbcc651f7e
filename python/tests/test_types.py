"""mypy --strict, over the package and over programs that use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import shmcreds

HERE = Path(__file__).parent
PACKAGE = Path(shmcreds.__file__).resolve().parent


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """What the type checker keeps of the libraries, which all checks read."""
    return tmp_path_factory.mktemp("mypy")


def _mypy(cache, *arguments):
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", str(HERE.parent / "pyproject.toml")]
    command += ["--cache-dir", str(cache), *map(str, arguments)]
    sources = PACKAGE.parent
    # mypy finds an installed package by itself, and refuses a path that leads to one.
    path = {} if sources.name == "site-packages" else {"MYPYPATH": str(sources)}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=HERE, env={**os.environ, **path}
    )


@pytest.mark.parametrize("what", ["package", "use"])
def test_strict(cache, what):
    checked = _mypy(cache, *(["-p", "shmcreds"] if what == "package" else [HERE / "typed_use.py"]))
    assert checked.returncode == 0, checked.stdout


def test_a_wrong_use_is_found(cache, tmp_path):
    wrong = tmp_path / "wrong.py"
    wrong.write_text("import shmcreds\nstate: int = shmcreds.SharedSession.attach('x').status()['state']\n")
    checked = _mypy(cache, wrong)
    assert checked.returncode == 1 and "Incompatible types in assignment" in checked.stdout
