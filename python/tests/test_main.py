"""``python -m shmcreds``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from shmcreds import find_bin
from shmcreds.exceptions import BRSConfigurationError


def run(path, *arguments):
    command = [sys.executable, "-m", "shmcreds", *arguments]
    return subprocess.run(command, env={**os.environ, "PATH": str(path)}, capture_output=True, text=True)


def has_own_program():
    try:
        return os.path.dirname(find_bin()) == os.path.dirname(sys.executable)
    except BRSConfigurationError:
        return False


@pytest.mark.skipif(has_own_program(), reason="this installation has the program, which is taken first")
def test_it_is_the_program_with_its_arguments_and_exit_code(tmp_path):
    program = tmp_path / "shmcreds"
    program.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    program.chmod(0o755)
    done = run(tmp_path, "doctor", "--json")
    assert (done.returncode, done.stdout) == (3, "doctor --json\n")


@pytest.mark.skipif(has_own_program(), reason="this installation has the program")
def test_without_the_program_it_says_how_to_get_it(tmp_path):
    done = run(tmp_path, "doctor")
    assert done.returncode == 1 and "cargo install" in done.stderr
