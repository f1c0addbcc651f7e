"""Other libraries with the set of a session, across rotations."""

from __future__ import annotations

import datetime
import http.server
import pickle
import re
import subprocess
import sys
import tempfile
import threading
import time
import types

import pytest
from support import finished, start
from waiting import until

from shmcreds import RefreshableSession, SharedSession, integrations


class Objects:
    """An S3 of one object. It remembers the key that signed each request."""

    def __init__(self):
        self.keys, self.dates = [], []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                signed = re.search("Credential=([^/]+)/", self.headers.get("Authorization", ""))
                server.dates.append(self.headers.get("X-Amz-Date", ""))
                server.keys.append(signed.group(1) if signed else "")
                self.send_response(200)
                for name, value in {"ETag": '"e"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Content-Length": "4"}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"body")

            def log_message(self, *_): ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def _moment(date):
    """When a request was signed, in whole seconds. When it arrives is up to the machine."""
    return datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc).timestamp()


@pytest.fixture
def objects():
    made = Objects()
    yield made
    made.close()


@pytest.fixture
def session(make, sts):
    sts.lifetime = 3600
    return make()


def test_obstore_never_signs_with_a_set_that_has_expired(objects, make, sts):
    import obstore
    from obstore.store import S3Store

    sts.lifetime = 3
    provider, expires = integrations.obstore(make()), {}

    def remembering():
        given = provider()
        expires[given["access_key_id"]] = given["expires_at"].timestamp()
        return given

    store = S3Store(
        "b", endpoint=objects.url, region="us-east-1", client_options={"allow_http": True},
        credential_provider=remembering,
    )  # fmt: skip
    end = time.monotonic() + 30
    while len(set(objects.keys)) < 3:
        assert time.monotonic() < end
        assert bytes(obstore.get(store, "x").bytes()) == b"body"
    assert all(signed < expires[key] for key, signed in zip(objects.keys, map(_moment, objects.dates), strict=True))


def test_requests_are_signed_with_the_newest_set(objects, session, sts):
    import requests

    auth = integrations.requests_auth(session, "us-east-1", "s3")
    for number in (1, 2, 3):
        requests.get(f"{objects.url}/b/x", auth=auth, timeout=20).raise_for_status()
        assert objects.keys[-1] == sts.key(number)
        session.refresh()


def test_threads_that_sign_requests_do_not_mix_two_sets(session, sts, monkeypatch):
    import requests
    from requests_aws4auth import AWS4Auth

    auth = integrations.requests_auth(session, "us-east-1", "s3")
    prepare = lambda: requests.Request("GET", "http://h/b/x").prepare()  # noqa: E731
    is_signing, may_end, of_class = threading.Event(), threading.Event(), AWS4Auth.get_canonical_request

    def paused(self, *given):
        # The token stands in the request already, and the signature is still to come.
        if threading.current_thread() is signing:
            is_signing.set()
            assert may_end.wait(20)
        return of_class(self, *given)

    monkeypatch.setattr(AWS4Auth, "get_canonical_request", paused)
    first, second = prepare(), prepare()
    signing = threading.Thread(target=auth, args=(first,))
    signing.start()
    assert is_signing.wait(20)
    session.refresh()
    auth(second)
    may_end.set()
    signing.join(20)
    for request, number in ((first, 1), (second, 2)):
        assert f"Credential={sts.key(number)}/" in request.headers["Authorization"]
        assert request.headers["x-amz-security-token"] == f"token-of-{sts.key(number)}"


def test_polars_is_told_the_true_expiry(session, sts):
    provider = integrations.polars(session)
    keys, expiry = provider()
    assert keys["aws_access_key_id"] == sts.key(1) and keys["aws_session_token"] == f"token-of-{sts.key(1)}"
    assert isinstance(expiry, int) and expiry == int(session._obtainer.store.look().expires)
    session.refresh()
    assert provider()[0]["aws_access_key_id"] == sts.key(2)


def test_obstore_is_told_the_true_expiry(session, sts):
    given = integrations.obstore(session)()
    expires = datetime.datetime.fromtimestamp(session._obtainer.store.look().expires, datetime.timezone.utc)
    assert given == {
        "access_key_id": sts.key(1), "secret_access_key": f"secret-of-{sts.key(1)}",
        "token": f"token-of-{sts.key(1)}", "expires_at": expires,
    }  # fmt: skip


def test_icechunk_gets_a_callable_that_can_be_pickled(session, sts, monkeypatch):
    made = types.ModuleType("icechunk")
    made.S3StaticCredentials = lambda *given: given
    monkeypatch.setitem(sys.modules, "icechunk", made)
    provider = pickle.loads(pickle.dumps(integrations.icechunk(session)))
    assert provider()[0] == sts.key(1)
    session.refresh()
    key, _, _, expires = provider()
    assert key == sts.key(2) and expires.tzinfo is not None


def test_s3fs_gets_a_session_of_aiobotocore(session, sts, monkeypatch):
    import asyncio

    made = types.ModuleType("s3fs")
    made.S3FileSystem = dict
    monkeypatch.setitem(sys.modules, "s3fs", made)
    given = integrations.s3fs(session, endpoint_url="http://x")
    assert given["endpoint_url"] == "http://x"
    frozen = asyncio.run(given["session"]._credentials.get_frozen_credentials())
    assert frozen.access_key == sts.key(1)


@pytest.mark.host
def test_a_session_by_name():
    source = lambda: dict(access_key="K", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")  # noqa: E731
    session = SharedSession.create(f"python-integrations-{time.time_ns()}", source)
    assert integrations.polars(session)() == (
        {"aws_access_key_id": "K", "aws_secret_access_key": "s", "aws_session_token": "t"}, 4070908800,
    )  # fmt: skip


def test_nothing_is_imported_before_it_is_used():
    code = "import sys, boto3.session, shmcreds; before = set(sys.modules); from shmcreds import integrations; print(*sorted(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "shmcreds.integrations" in loaded
    assert [name for name in loaded if not name.startswith("shmcreds.")] == []


def test_an_error_of_the_source_is_that_of_the_session():
    def source():
        raise ValueError("boom")

    session = RefreshableSession(method="custom", custom_credentials_method=source)
    with pytest.raises(ValueError, match="boom"):
        integrations.polars(session)()


@pytest.mark.program
def test_eight_workers_over_three_rotations(objects, sts, tmp_path):
    sts.lifetime = 5.0
    end = tmp_path / "end"
    # This version counts the threads after the fork, when that of the export has been started again.
    options = ("-W", "ignore:This process:DeprecationWarning") if sys.version_info[:2] == (3, 13) else ()
    process = start("rotations.py", 8, objects.url, end, sts_url=sts.url, options=options)
    try:
        until(lambda: len(set(objects.keys)) >= 4 or process.poll() is not None, 60)
    finally:
        end.touch()
    assert finished(process) == [[0] * 8]
    # One call for each set: none in the first half of the life of the one before.
    assert set(sts.callers) == {"AKIABASE"}
    ends = list(sts.expires.values())
    assert min(later - earlier for earlier, later in zip(ends, ends[1:], strict=False)) > 0.45 * sts.lifetime
    # None signed late. The date of a signature has whole seconds.
    for key, date in zip(objects.keys, objects.dates, strict=True):
        assert _moment(date) < sts.expires[key]


@pytest.mark.host
def test_pickled_sessions_of_two_hosts_over_three_rotations(objects, make, sts, tmp_path):
    """As the workers of dask or ray: those of this host share its sets. Another host has another shared memory."""
    sts.lifetime = 8.0
    there = Objects()
    given, end = tmp_path / "session", tmp_path / "end"
    given.write_bytes(pickle.dumps(make()))
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other_host:
        workers = [start("pickled.py", given, objects.url, end, sts_url=sts.url) for _ in range(4)]
        workers += [start("pickled.py", given, there.url, end, sts_url=sts.url, SHMCREDS_DIR=other_host) for _ in range(2)]
        try:
            is_over = lambda: all(len(set(seen.keys)) >= 4 for seen in (objects, there))  # noqa: E731
            until(lambda: is_over() or any(worker.poll() is not None for worker in workers), 90)
        finally:
            end.touch()
        assert all(finished(worker)[0] > 0 for worker in workers)
    there.close()
    here = set(objects.keys)
    assert len(here) >= 4 and len(set(there.keys)) >= 4 and here.isdisjoint(there.keys)
    assert here | set(there.keys) <= set(sts.expires) and set(sts.callers) == {"AKIABASE"}
    for seen in (objects, there):
        # One call for each set: none in the first half of the life of the one before.
        ends = sorted(sts.expires[key] for key in set(seen.keys))
        assert min(later - earlier for earlier, later in zip(ends, ends[1:], strict=False)) > 0.45 * sts.lifetime
        for key, date in zip(seen.keys, seen.dates, strict=True):
            assert _moment(date) < sts.expires[key]
