"""The programs of examples/, run as they are, with moto as AWS; and the README, which shows each of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import environment

import shmcreds
from shmcreds import caller

HERE = Path(__file__).parents[1]
README = (HERE / "README.md").read_text()
EXAMPLES = sorted(path.name for path in (HERE / "examples").glob("*.py"))

#: Runs a program within moto. A pool started by "spawn" is without moto, and reads what its parent fetched.
_RUNNER = """
import runpy, sys, moto
with moto.mock_aws():
    runpy.run_path(sys.argv[1], run_name="__main__")
"""


@pytest.fixture
def by_name():
    yield
    if "web" in shmcreds.native_module.require("the test").names():
        shmcreds.native_module.require("the test").remove("web")


def _run(name, tmp_path, more=""):
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER + more, str(HERE / "examples" / name)],
        env=environment(), capture_output=True, text=True, timeout=90, check=False, cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.host
def test_the_example_of_a_sealed_session(sts):
    # moto sees no request of the refresher, which is another process.
    done = subprocess.run(
        [sys.executable, str(HERE / "examples/sealed.py")], env=environment(AWS_ENDPOINT_URL_STS=sts.url),
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "fresh\n")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("basic.py", r"\[\]"),
        ("custom.py", "ASIAEXAMPLE"),
        ("mfa.py", ":assumed-role/app/boto3-refresh-session"),
        ("asynchronous.py", "https://s3"),
        pytest.param("by_name.py", "ASIAEXAMPLE fresh\nhttps://", marks=pytest.mark.host),
        ("gunicorn_app.py", ""),
        ("celery_tasks.py", ""),
        pytest.param("other_libraries.py", "True", marks=pytest.mark.program),
        ("data_loader.py", ""),
    ],
)
def test_an_example_runs(name, says, tmp_path):
    assert re.search(says, _run(name, tmp_path))


@pytest.mark.host
def test_a_pool_shares_one_key(sts, tmp_path):
    text = (HERE / "examples/process_pool.py").read_text()
    client = f"sts_client_kwargs={sts.client!r},\n        assume_role_kwargs="
    program = tmp_path / "pool.py"
    program.write_text(text.replace("assume_role_kwargs=", client))
    done = subprocess.run([sys.executable, str(program)], env=environment(), capture_output=True, text=True, timeout=90, check=False)
    assert (done.stdout, done.stderr) == ("1 key\n", "")
    assert len(sts.calls) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_readme_shows_it(name):
    text = (HERE / "examples" / name).read_text()
    assert text in README or f"(examples/{name})" in README


def test_the_readme_shows_no_other_program():
    shown = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    files = {(HERE / "examples" / name).read_text() for name in EXAMPLES}
    assert shown and all(program in files for program in shown)


def test_each_variable_that_is_hashed_is_documented():
    assert all(f"`{name}`" in README for name in caller._VARIABLES)
