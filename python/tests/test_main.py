"""``python -m shmcreds``."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import shmcreds


#: The command, where this installation has no program of its own.
_WITHOUT = "import sys; from shmcreds import __main__, program; program.own_program = lambda: None; __main__.main()"


def run(path, *arguments):
    command = [sys.executable, "-c", _WITHOUT, *arguments]
    return subprocess.run(command, env={**os.environ, "PATH": str(path)}, capture_output=True, text=True)


def test_it_is_the_program_with_its_arguments_and_exit_code(tmp_path):
    program = tmp_path / "shmcreds"
    program.write_text('#!/bin/sh\necho "$@"\nexit 3\n')
    program.chmod(0o755)
    done = run(tmp_path, "doctor", "--json")
    assert (done.returncode, done.stdout) == (3, "doctor --json\n")


def test_without_the_program_it_says_how_to_get_it(tmp_path):
    done = run(tmp_path, "doctor")
    assert done.returncode == 1 and "cargo install" in done.stderr


@pytest.mark.program
def test_the_program_of_this_installation(tmp_path):
    command = [sys.executable, "-m", "shmcreds", "--version"]
    done = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"shmcreds {shmcreds.__version__}\n")
    assert os.path.dirname(shmcreds.find_bin()) == os.path.dirname(sys.executable)
