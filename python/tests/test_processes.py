"""Several processes with one session: deaths, forks, failures, signals."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import pytest
from local_sts import Failure
from support import environment, finished, free_port, run, segments, start
from waiting import until

pytestmark = pytest.mark.host

#: botocore fetches on the caller's thread, or the Rust library in the background.
engines = pytest.mark.parametrize("engine", ["python", "native"])


def _hold(sts, how="exit"):
    import subprocess
    import sys

    from support import PROGRAMS, environment

    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS / "hold.py"), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(sts.url),
    )
    return process, json.loads(process.stdout.readline())


def _end(process):
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def test_64_cold_forks_call_a_function_once(tmp_path):
    calls = tmp_path / "calls"
    keys = run("fork_callable.py", 64, calls)
    assert len(keys) == 64 and len(set(keys)) == 1
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize(("kind", "engine"), [("callable", "python"), ("command", "python"), ("command", "native")])
def test_one_code_for_each_fetch_of_eight_processes(sts, kind, engine, tmp_path):
    # The third set stays, however long the last of them takes to see it.
    sts.lifetime, sts.short_sets = 3.0, 2
    calls = tmp_path / "calls"
    found = run("mfa.py", 8, 3, kind, calls, sts_url=sts.url, TEST_ENGINE=engine)
    assert len({worker["pid"] for worker in found}) == 8
    assert len(sts.calls) == 3
    assert len(calls.read_text().splitlines()) == 3


def test_the_creator_ends_and_a_newcomer_joins(sts):
    creator, first = _hold(sts)
    other, second = _hold(sts)
    _end(creator)
    assert segments(first["name"]) != []
    newcomer, third = _hold(sts)
    assert {first["key"], second["key"], third["key"]} == {sts.key(1)}
    assert {first["name"], second["name"], third["name"]} == {first["name"]}
    assert third["generation"] == 1
    assert len(sts.calls) == 1
    _end(other)
    _end(newcomer)
    assert segments(first["name"]) == []


@pytest.mark.parametrize("how", ["_exit", "kill"])
def test_what_a_killed_last_user_leaves_the_next_one_replaces(sts, how, own_directory):
    process, first = _hold(sts, how)
    if how == "kill":
        process.kill()
    _end(process)
    assert os.listdir(own_directory) != []
    newcomer, second = _hold(sts)
    assert second["key"] == sts.key(2)
    _end(newcomer)
    assert os.listdir(own_directory) == []


@engines
def test_eight_processes_have_one_failure(sts, engine):
    sts.failure = Failure("AccessDenied", "not you")
    began = time.monotonic()
    told = run("failing.py", 8, sts_url=sts.url, TEST_ENGINE=engine)
    assert told == [["AccessDenied", "AssumeRole", 403, "req-failed", True]] * 8
    # A process that comes after the back-off of 5 s asks again.
    assert len(sts.calls) <= 1 + (time.monotonic() - began) // 5


class _Buckets(http.server.BaseHTTPRequestHandler):
    """An S3 without buckets, for which the first set has expired."""

    def do_GET(self):
        key = re.search("Credential=([^/]+)/", self.headers["Authorization"]).group(1)
        self.server.keys.append(key)
        status, body = (400, _EXPIRED) if key == self.server.expired else (200, b"<ListAllMyBucketsResult/>")
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_): ...


_EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>no</Message></Error>"


@engines
def test_a_set_that_eight_processes_see_rejected_is_replaced_once(sts, engine):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Buckets) as server:
        server.keys, server.expired = [], sts.key(1)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        (ended,) = run("rejected.py", 8, url, sts_url=sts.url, TEST_ENGINE=engine)
        server.shutdown()
    # Each was served, unless it waited for the set for as long as it may. The first of them at least was refused before.
    assert set(ended) <= {0, 3} and server.keys.count(sts.key(2)) == ended.count(0) and server.keys[0] == sts.key(1)
    assert len(sts.calls) == 2


def test_1000_forks_during_refreshes():
    assert run("fork_storm.py", 1000) == [True]


def _interrupt(sts, kind, engine):
    with sts.holding():
        process = start("interrupted.py", kind, sts_url=sts.url, TEST_ENGINE=engine)
        assert json.loads(process.stdout.readline()) == "reads"
        # During the call, and where it has nothing to do but to wait.
        until(lambda: sts.calls and _is_asleep(process.pid), 60)
        os.kill(process.pid, signal.SIGINT)
        (longest_wait,) = finished(process)
        assert sts.answered == []
    # A signal is handled between two waits.
    assert longest_wait <= 0.1


def _is_asleep(pid):
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0] == "S"


@engines
@pytest.mark.parametrize("kind", ["fetches", "waits"])
def test_ctrl_c_during_a_fetch(sts, kind, engine):
    _interrupt(sts, kind, engine)


@pytest.mark.parametrize(
    ("kind", "engine"),
    [(kind, engine) for kind in ("fetches", "waits", "lasts") for engine in ("python", "native")] + [("constructs", "native")],
)
def test_greenlets_run_during_a_fetch(sts, kind, engine, tmp_path):
    sts.lifetime = 24.0
    before = 1 if kind == "lasts" else 0
    with sts.holding(after=before):
        called = tmp_path / "called"
        process = start("greenlets.py", kind, called, sts_url=sts.url, TEST_ENGINE=engine)
        until(lambda: len(sts.calls) > before, 60)
        called.touch()
        assert json.loads(process.stdout.readline()) == "ticks"
        assert len(sts.answered) == before
        sts.release()
        ((key, longest_wait),) = finished(process)
    assert key == sts.key(before + 1)
    # All others stand still while one waits in the native module.
    assert longest_wait == 0


def test_a_worker_has_little_memory_of_its_own(sts):
    # The least of three: a page more or less is chance.
    private = {who: min(run("memory.py", who, sts_url=sts.url)[0] for _ in range(3)) for who in ("static keys", "shmcreds")}
    assert private["shmcreds"] - private["static keys"] <= 1000


def test_clients_of_a_child_have_sockets_of_their_own(sts):
    assert run("fork_client.py", sts_url=sts.url) == [[True, True, True]]


@engines
def test_forks_warn_of_nothing(sts, engine):
    told = run("forking_eager.py", sts_url=sts.url, options=("-W", "error"), TEST_ENGINE=engine)
    assert told == ["no warning"]


def test_threads_that_the_end_of_python_finds_in_the_module():
    # Until 3.13 Python ends such a thread by an unwind of its stack, with the functions of libgcc_s.
    assert run("busy_at_the_end.py", sts_url=f"http://127.0.0.1:{free_port()}", TEST_ENGINE="native") == [True]


@pytest.mark.parametrize(("module", "generation"), [(None, 3), ("numpy", 6)])
def test_an_eager_session_is_refreshed_without_reads(sts, module, generation):
    # The last set stays, so that no call is in flight at the end.
    sts.lifetime, sts.short_sets = 6.0, generation - 1
    (told,) = run("eager.py", generation, *filter(None, [module]), sts_url=sts.url, TEST_ENGINE="python")
    assert told["generation"] == len(sts.calls) == generation
    assert len(told["states"]) == generation - 1
    assert _in_time(told, "advisory")


def _in_time(told, *states):
    """Whether the set had no other state. Nobody can say so of a process that was kept from running."""
    return set(told["states"]) <= set(states) or told["longest_pause"] > 0.3


@engines
def test_an_outage_is_noticed_when_the_set_expires(sts, engine):
    sts.lifetime = 6.0
    processes = [start("outage.py", sts_url=sts.url, TEST_ENGINE=engine, AWS_MAX_ATTEMPTS="1") for _ in range(2)]
    for process in processes:
        assert json.loads(process.stdout.readline()) in sts.expires
    sts.failure = Failure("ServiceUnavailable", status=503)
    assert [finished(process) for process in processes] == [[{"code": "ServiceUnavailable", "early": False}]] * 2


def test_a_child_takes_over_when_the_process_that_fetches_dies(sts):
    sts.delay = 60
    process = start("hold.py", sts_url=sts.url)
    until(lambda: sts.calls)
    sts.delay = 0
    waiting = start("forks.py", 1, 1, sts_url=sts.url)
    until(lambda: waiting.poll() is None)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    (found,) = finished(waiting)
    assert found["keys"] == [sts.key(2)]


@pytest.mark.program
def test_an_eager_session_beside_threads_is_refreshed_by_the_program(sts):
    sts.lifetime, sts.short_sets = 6.0, 3
    (told,) = run("eager_native.py", 4, sts_url=sts.url, options=("-W", "error"), OPENBLAS_NUM_THREADS="4")
    assert told["threads"] > 1 and told["after"] == told["threads"]
    assert (told["engine"], told["program"]) == ("native", "shmcreds")
    assert told["line"] == f"shmcreds: {told['name']}"
    # Nothing of the parent: no variable, no memory, no library.
    assert (told["environment"], told["marks"], told["libraries"]) == ("", 0, [])
    assert _in_time(told, "fresh", "advisory")
    assert len(sts.calls) == 4
    until(lambda: not os.path.exists(f"/proc/{told['refresher']}"))
    assert segments(told["name"]) == []


@pytest.mark.program
def test_four_eager_processes_have_one_refresher(sts, tmp_path):
    sts.lifetime, sts.short_sets = 6.0, 2
    processes = [start("eager_native.py", 3, tmp_path / "end", sts_url=sts.url) for _ in range(4)]
    # The last one to start joins: nobody ends before.
    told = [json.loads(process.stdout.readline()) for process in processes]
    (tmp_path / "end").touch()
    assert [finished(process) for process in processes] == [[]] * 4
    assert {one["engine"] for one in told} == {"native"}
    assert len({one["name"] for one in told}) == len({one["refresher"] for one in told}) == 1
    assert len(sts.calls) == 3


@pytest.mark.program
def test_an_eager_session_whose_first_fetch_fails(sts):
    sts.failure = Failure("AccessDenied", "not you")
    told = run("failing.py", 1, "eager", sts_url=sts.url)
    assert told == [["AccessDenied", "AssumeRole", 403, "req-failed", True]]


@pytest.mark.program
def test_ctrl_c_while_an_eager_session_fetches(sts):
    _interrupt(sts, "constructs", "auto")


def test_a_sealed_session(sts):
    (told,) = run("sealed.py", sts_url=sts.url)
    assert (told["key"], told["refreshed"]) == (sts.key(1), sts.key(2))
    assert (told["status"]["engine"], told["status"]["sharing"]) == ("native", "host")
    assert told["worker"] == f"65534 {sts.key(1)}"
    assert "cannot be pickled" in told["pickle"]
    assert told["files"] == []


def test_a_sealed_session_beside_threads_is_refused(sts):
    code = (
        "import threading, reading\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "reading.session(defer_refresh=False, sealed=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(sts.url))
    assert "BRSConfigurationError" in done.stderr and "threads" in done.stderr
