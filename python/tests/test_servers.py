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
LIFETIME = 2.0

#: botocore fetches on the thread that needs the set, or the Rust library in the background.
engines = pytest.mark.parametrize("engine", ["python", "native"])


@pytest.fixture(autouse=True)
def short_sets(sts):
    """The last set is the one that stays."""
    sts.lifetime, sts.short_sets = LIFETIME, GENERATIONS - 1


def _served(sts, found):
    """One call for all, and one more for each refresh. Gives the name of the session."""
    assert len({worker["pid"] for worker in found}) == WORKERS
    assert len({worker["name"] for worker in found}) == 1
    for worker in found:
        assert {sts.key(GENERATIONS)} <= set(worker["keys"]) <= {sts.key(n) for n in range(1, GENERATIONS + 1)}
    assert len(sts.calls) == GENERATIONS
    name: str = found[0]["name"]
    return name


def _check(sts, found):
    assert segments(_served(sts, found)) == []


@engines
def test_forks(sts, engine):
    _check(sts, run("forks.py", WORKERS, GENERATIONS, sts_url=sts.url, TEST_ENGINE=engine))


@engines
@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_process_pools(sts, kind, engine):
    _check(sts, run("pools.py", kind, GENERATIONS, sts_url=sts.url, TEST_ENGINE=engine))


@engines
@pytest.mark.parametrize("kind", ["fork", "spawn"])
def test_a_data_loader(sts, kind, engine):
    _check(sts, run("loader.py", kind, GENERATIONS, sts_url=sts.url, TEST_ENGINE=engine))


@pytest.mark.torch
@engines
@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver"])
def test_a_data_loader_of_torch(sts, kind, engine):
    options = ("-W", "ignore:This DataLoader will create")  # The machine may have fewer processors.
    _check(sts, run("torch_loader.py", kind, GENERATIONS, sts_url=sts.url, options=options, TEST_ENGINE=engine))


@engines
@pytest.mark.parametrize("kind", ["aiobotocore", "crt"])
def test_clients(sts, kind, engine):
    _check(sts, run("client_keys.py", kind, WORKERS, GENERATIONS, sts_url=sts.url, TEST_ENGINE=engine))


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


def _drive(sts, port, process, engine):
    """Asks from many threads until all workers have answered with the last set."""
    found, end, last = {}, time.monotonic() + 90, sts.key(GENERATIONS)
    with concurrent.futures.ThreadPoolExecutor(2 * WORKERS) as pool:
        while len(found) < WORKERS or not all(last in worker["keys"] for worker in found.values()):
            assert process.poll() is None, process.returncode
            assert time.monotonic() < end, (found, sts.calls)
            for answer in filter(None, pool.map(_ask, [port] * 2 * WORKERS)):
                assert answer["engine"] == engine
                seen = {"pid": answer["pid"], "keys": [], "name": answer["name"]}
                found.setdefault(answer["pid"], seen)["keys"].append(answer["key"])
    return list(found.values())


@engines
@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each worker imports", "preload"])
def test_gunicorn(sts, preload, engine, tmp_path):
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "-w", str(WORKERS), "-b", f"127.0.0.1:{port}", *preload]
    with _serving([*command, "wsgi_app:application"], sts.url, tmp_path / "log", TEST_ENGINE=engine) as process:
        found = _drive(sts, port, process, engine)
    _check(sts, found)


@engines
@pytest.mark.parametrize("lazy", [[], ["--lazy-apps"]], ids=["forked", "lazy"])
def test_uwsgi(sts, make, lazy, engine, tmp_path):
    port = free_port()
    uwsgi = [sys.executable, "-c", "import pyuwsgi; pyuwsgi.run()"]
    options = ["--http-socket", f"127.0.0.1:{port}", "--processes", str(WORKERS), "--master", "--die-on-term"]
    options += ["--single-interpreter", "--need-app", "--module", "wsgi_app:application"]
    with _serving([*uwsgi, *options, *lazy], sts.url, tmp_path / "log", TEST_ENGINE=engine) as process:
        found = _drive(sts, port, process, engine)
    name = _served(sts, found)
    # Its master process ends without a word to Python. The next session of any name removes what is left.
    make(shared=False)
    assert segments(name) == []


@engines
def test_celery(sts, engine, tmp_path):
    for folder in ("queue", "results"):
        (tmp_path / folder).mkdir()
    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "-c", str(WORKERS), "-P", "prefork"]
    given = {"TEST_FOLDER": str(tmp_path), "TEST_ENGINE": engine}
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
