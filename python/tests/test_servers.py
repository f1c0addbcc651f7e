"""Servers and pools of eight processes: one call for each set, and one set for all."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import subprocess
import sys
import time
import urllib.request

import pytest
from support import environment, free_port, run, segments

pytestmark = pytest.mark.host

WORKERS = 8
GENERATIONS = 4
LIFETIME = 3.0


@pytest.fixture(autouse=True)
def short_sets(sts):
    sts.lifetime = LIFETIME


def _served(sts, found):
    """One set for all, and no call more than there were sets. Gives its name."""
    assert len({worker["pid"] for worker in found}) == WORKERS
    assert len({worker["name"] for worker in found}) == 1
    keys = set().union(*(worker["keys"] for worker in found))
    assert keys <= {sts.key(n) for n in range(1, len(sts.calls) + 1)}
    # A worker may have begun the fifth set before the last one had seen the fourth.
    assert GENERATIONS <= len(sts.calls) <= GENERATIONS + 1
    name: str = found[0]["name"]
    return name


def _check(sts, found):
    assert segments(_served(sts, found)) == []


@pytest.mark.parametrize("engine", ["python", "native"])
def test_forks(sts, engine):
    _check(sts, run("forks.py", WORKERS, GENERATIONS, sts_url=sts.url, TEST_ENGINE=engine))


def test_a_process_pool_with_the_native_engine(sts):
    _check(sts, run("pools.py", "spawn", GENERATIONS, sts_url=sts.url, TEST_ENGINE="native"))


@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_process_pools(sts, kind):
    _check(sts, run("pools.py", kind, GENERATIONS, sts_url=sts.url))


def test_a_data_loader(sts):
    _check(sts, run("loader.py", GENERATIONS, sts_url=sts.url))


@contextlib.contextmanager
def _serving(command, sts_url, log, **given):
    """The server; what it says goes to the file, since nobody would empty a pipe."""
    with open(log, "w") as file:
        process = subprocess.Popen(command, env=environment(sts_url, **given), stdout=file, stderr=file)
    try:
        yield process
        assert process.poll() is None, log.read_text()
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


def _ask(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
            return json.loads(answer.read())
    except (OSError, http.client.HTTPException):
        # It does not listen yet.
        time.sleep(0.05)
        return None


def _drive(sts, port, process):
    """Asks from many threads until all workers have answered, and there have been enough sets."""
    found, end = {}, time.monotonic() + 90
    with concurrent.futures.ThreadPoolExecutor(2 * WORKERS) as pool:
        while len(found) < WORKERS or len(sts.calls) < GENERATIONS:
            assert process.poll() is None, process.returncode
            assert time.monotonic() < end, (found, sts.calls)
            for answer in filter(None, pool.map(_ask, [port] * 2 * WORKERS)):
                seen = {"pid": answer["pid"], "keys": [], "name": answer["name"]}
                found.setdefault(answer["pid"], seen)["keys"].append(answer["key"])
    return list(found.values())


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each worker imports", "preload"])
def test_gunicorn(sts, preload, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", *preload]
    with _serving([*command, "wsgi_app:application"], sts.url, tmp_path / "log") as process:
        found = _drive(sts, port, process)
    _check(sts, found)


@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["forked", "lazy"])
def test_uwsgi(sts, make, lazy, tmp_path):
    port = free_port()
    uwsgi = [sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"]
    options = ["--http-socket", f"127.0.0.1:{port}", "--processes", str(WORKERS), "--master", "--die-on-term"]
    options += ["--single-interpreter", "--need-app", "--module", "wsgi_app:application"]
    with _serving([*uwsgi, *options, *lazy], sts.url, tmp_path / "log") as process:
        found = _drive(sts, port, process)
    name = _served(sts, found)
    # Its master process ends without a word to Python. The next session of any name removes what is left.
    make(shared=False)
    assert segments(name) == []


def test_celery(sts, tmp_path):
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", str(WORKERS), "-P", "prefork"]
    given = {"TEST_FOLDER": str(tmp_path)}
    program = (
        "import celery, celery_app, json\n"
        f"tasks = [celery_app.read.delay({GENERATIONS}) for _ in range({WORKERS})]\n"
        "print(json.dumps([task.get(timeout=80) for task in tasks]))\n"
    )
    with _serving([*command, "--without-gossip", "--without-mingle"], sts.url, tmp_path / "log", **given):
        asked = subprocess.run(
            [sys.executable, "-c", program], env=environment(sts.url, **given), capture_output=True, text=True,
            timeout=90, check=False,
        )
        assert asked.returncode == 0, asked.stderr
    _check(sts, json.loads(asked.stdout))
