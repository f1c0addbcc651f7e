#!/usr/bin/env python3
"""Libraries with the sets of a session, over rotations, in forked workers.

    libraries.py [--by export|adapter] [--lives 15,5,2] [--sets 3] [--workers 8] [LIBRARY…]
    libraries.py --shortest [--lives 60,30,20,15,12,10,8,5,3] [--beside 4] [LIBRARY…]

For each library and life of a set: how many requests were signed with a key that had expired, how many were signed in time
and arrived too late, how many sets were used, and how many calls of STS there were. It ends with 1 if a call was made in the
first half of the life of the set before, if a request was signed late, or if a worker failed. Each library is forked into its
own workers, which read an object of a stand-in for S3 again and again.

With --shortest it tries the lives in turn, by the endpoint and by the adapter, until a request is signed late or fails, and
prints a table: the shortest life that each library survives, and for how long it signed with a set after there was a newer
one, in parts of the life. It measures --beside libraries at a time.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import datetime
import http.server
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import local_sts  # noqa: E402

import shmcreds  # noqa: E402
from shmcreds import aio, integrations  # noqa: E402

REGION = "eu-west-1"
OBJECT = b"a,b\n1,2\n"
#: How often a worker reads, in seconds.
PAUSE = 0.3


class Objects:
    """An S3 with the object x.csv in each bucket, which refuses expired keys."""

    def __init__(self, expires, life):
        self.late, self.slow, self.keys = 0, 0, set()
        #: The longest time for which a set was in use after there was a newer one.
        self.kept = 0.0
        self._expires, self._life = expires, life
        objects = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do(self):
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                signed = re.search(r"Credential=([A-Z0-9]+)", f"{self.headers.get('Authorization')} {self.path}")
                key = signed.group(1) if signed else ""
                objects.keys.add(key)
                objects.note_age(key)
                if objects._expires.get(key, 0) < time.time():
                    if signed_at(self.headers) < objects._expires.get(key, 0):
                        objects.slow += 1
                    else:
                        objects.late += 1
                    error = b"<Error><Code>ExpiredToken</Code><Message>expired</Message></Error>"
                    return self.answer(400, error, "application/xml")
                if "list-type" in self.path:
                    return self.answer(200, LISTED, "application/xml")
                part = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
                if part is None:
                    return self.answer(200, OBJECT, "text/csv")
                first, last = int(part[1]), min(int(part[2] or len(OBJECT) - 1), len(OBJECT) - 1)
                return self.answer(206, OBJECT[first : last + 1], "text/csv", f"bytes {first}-{last}/{len(OBJECT)}")

            do_GET = do_HEAD = do_PUT = do_POST = do

            def answer(self, status, body, kind, part=None):
                self.send_response(status)
                headers = {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": '"e"', "Accept-Ranges": "bytes"}
                headers["Last-Modified"] = "Thu, 01 Jan 2026 00:00:00 GMT"
                for name, value in {**headers, **({"Content-Range": part} if part else {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_): ...

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 128

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def note_age(self, key):
        made = self._expires.get(key)
        later = [expires for expires in list(self._expires.values()) if made is not None and expires > made]
        if later:
            self.kept = max(self.kept, time.time() - (min(later) - self._life))

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def signed_at(headers) -> float:
    """The date of a signature, which has whole seconds. A request without one counts as signed now."""
    try:
        date = datetime.datetime.strptime(headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ")
    except (TypeError, ValueError):
        return time.time()
    return date.replace(tzinfo=datetime.timezone.utc).timestamp()


LISTED = (
    b"<ListBucketResult><Name>b</Name><KeyCount>1</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
    b"<Contents><Key>x.csv</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
    b"<Size>8</Size><StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
)


# Each function gives a function that reads once. `session` is None where the library finds the endpoint by itself.


def boto3(url, session):
    import boto3

    made = boto3.Session() if session is None else integrations.boto3_session(session)
    client = made.client("s3", endpoint_url=url, region_name=REGION)
    return lambda: client.get_object(Bucket="b", Key="x.csv")["Body"].read()


def aiobotocore(url, session):
    import asyncio

    from aiobotocore.session import AioSession

    made = AioSession() if session is None else aio.session(session)
    loop = asyncio.new_event_loop()

    async def client():
        return await made.create_client("s3", endpoint_url=url, region_name=REGION).__aenter__()

    opened = loop.run_until_complete(client())

    async def read():
        return await (await opened.get_object(Bucket="b", Key="x.csv"))["Body"].read()

    return lambda: loop.run_until_complete(read())


def s3fs(url, session):
    import s3fs

    options = dict(endpoint_url=url, client_kwargs={"region_name": REGION}, use_listings_cache=False)
    system = s3fs.S3FileSystem(**options) if session is None else integrations.s3fs(session, **options)
    return lambda: system.cat("b/x.csv")


def obstore(url, session):
    import obstore
    from obstore.store import S3Store

    more = {} if session is None else {"credential_provider": integrations.obstore(session)}
    store = S3Store("b", endpoint=url, region=REGION, client_options={"allow_http": True}, **more)
    return lambda: bytes(obstore.get(store, "x.csv").bytes())


def obstore_boto3(url, session):
    """The provider that comes with obstore."""
    import boto3
    import obstore
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    made = boto3.Session() if session is None else session
    provider = Boto3CredentialProvider(made)
    store = S3Store(
        "b", endpoint=url, region=REGION, client_options={"allow_http": True}, credential_provider=provider
    )  # fmt: skip
    return lambda: bytes(obstore.get(store, "x.csv").bytes())


def icechunk(url, session):
    import icechunk

    more = {"from_env": True} if session is None else {"get_credentials": integrations.icechunk(session)}
    storage = icechunk.s3_storage(
        bucket="b", prefix="x", region=REGION, endpoint_url=url, allow_http=True, force_path_style=True, **more
    )  # fmt: skip

    def read():
        # There is no repository: what counts is that the request was signed and taken.
        try:
            icechunk.Repository.exists(storage)
        except Exception as error:
            if any(word in str(error) for word in ("ExpiredToken", "redential", "dispatch")):
                raise

    return read


def polars_provider(url, session):
    """The provider that comes with polars."""
    import polars

    options = {"aws_endpoint_url": url, "aws_region": REGION, "aws_allow_http": "true"}
    provider = polars.CredentialProviderAWS()
    return lambda: polars.scan_csv("s3://b/x.csv", storage_options=options, credential_provider=provider).collect()


def polars(url, session):
    import polars

    options = {"aws_endpoint_url": url, "aws_region": REGION, "aws_allow_http": "true"}
    provider = {} if session is None else {"credential_provider": integrations.polars(session)}
    return lambda: polars.scan_csv("s3://b/x.csv", storage_options=options, **provider).collect()


def pyarrow(url, session):
    from pyarrow import fs

    system = fs.S3FileSystem(endpoint_override=url, region=REGION)
    return lambda: system.open_input_stream("b/x.csv").read()


def deltalake(url, session):
    import deltalake

    options = {"aws_endpoint_url": url, "aws_region": REGION, "aws_allow_http": "true"}

    def read():
        # There is no table: what counts is that the request was signed and taken.
        try:
            deltalake.DeltaTable("s3://b/", storage_options=options)
        except Exception as error:
            if any(word in str(error) for word in ("ExpiredToken", "169.254", "redential")):
                raise

    return read


def awscrt(url, session):
    import urllib.request

    from awscrt import auth, http, io

    bootstrap = io.ClientBootstrap.get_or_create_static_default()
    provider = auth.AwsCredentialsProvider.new_default_chain(bootstrap)

    def read():
        host = url.removeprefix("http://")
        request = http.HttpRequest("GET", "/b/x.csv", http.HttpHeaders([("Host", host)]))
        config = auth.AwsSigningConfig(
            algorithm=auth.AwsSigningAlgorithm.V4, credentials_provider=provider, region=REGION, service="s3",
            signature_type=auth.AwsSignatureType.HTTP_REQUEST_HEADERS,
        )  # fmt: skip
        signed = auth.aws_sign_request(request, config).result(20)
        with urllib.request.urlopen(urllib.request.Request(f"{url}/b/x.csv", headers=dict(signed.headers)), timeout=20) as answer:
            return answer.read()

    return read


def smart_open(url, session):
    import boto3
    import smart_open

    made = boto3.Session() if session is None else integrations.boto3_session(session)
    client = made.client("s3", endpoint_url=url, region_name=REGION)
    return lambda: smart_open.open("s3://b/x.csv", "rb", transport_params={"client": client}).read()


def awswrangler(url, session):
    import awswrangler

    awswrangler.config.s3_endpoint_url = url
    # Otherwise it takes ray, where that is installed.
    awswrangler.engine.set("python")
    import boto3

    made = boto3.Session(region_name=REGION) if session is None else session
    return lambda: awswrangler.s3.read_csv("s3://b/x.csv", boto3_session=made)


def django(url, session):
    import django
    from django.conf import settings

    settings.configure()
    django.setup()
    options = dict(bucket_name="b", endpoint_url=url, region_name=REGION)
    if session is None:
        from storages.backends.s3 import S3Storage

        storage = S3Storage(**options)
    else:
        from shmcreds.django import S3Storage as OurStorage

        storage = OurStorage(session=session, **options)
    return lambda: storage.open("x.csv").read()


def opensearch(url, session):
    import boto3
    import opensearchpy

    credentials = boto3.Session().get_credentials() if session is None else session.get_credentials()
    auth = opensearchpy.AWSV4SignerAuth(credentials, REGION, "es")
    client = opensearchpy.OpenSearch(
        hosts=[url], http_auth=auth, connection_class=opensearchpy.RequestsHttpConnection, max_retries=0
    )

    def read():
        try:
            client.transport.perform_request("GET", "/b/x.csv")
        except opensearchpy.exceptions.SerializationError:
            pass

    return read


def requests(url, session):
    """requests-aws4auth, which signs for requests and opensearch-py."""
    import boto3
    import requests
    from requests_aws4auth import AWS4Auth

    if session is None:
        auth = AWS4Auth(region=REGION, service="s3", refreshable_credentials=boto3.Session().get_credentials())
    else:
        auth = integrations.requests_auth(session, REGION, "s3")

    def read():
        answer = requests.get(f"{url}/b/x.csv", auth=auth, timeout=20)
        answer.raise_for_status()
        return answer.content

    return read


LIBRARIES = {
    made.__name__: made
    for made in (
        boto3, aiobotocore, s3fs, obstore, obstore_boto3, polars, polars_provider, pyarrow, deltalake, awscrt, icechunk,
        smart_open, awswrangler, django, opensearch, requests,
    )  # fmt: skip
}


WITHOUT_ADAPTER = {"pyarrow", "deltalake", "awscrt", "polars_provider"}
#: The packages whose versions the table names, where they have other names.
PACKAGES = {
    "django": "django-storages", "opensearch": "opensearch-py", "obstore_boto3": "obstore", "polars_provider": "polars",
    "requests": "requests-aws4auth",
}  # fmt: skip


def read_until(path: str, make, url, session) -> int:
    """Reads in a worker until the file is there; gives how many reads failed."""
    failed, worked, read = 0, 0, make(url, session)
    while not os.path.exists(path):
        try:
            read()
            worked += 1
        except Exception:
            failed += 1
            if failed == 1:
                traceback.print_exc(limit=-2)
        time.sleep(PAUSE)
    return failed if worked else max(failed, 1)


def run(make, by: str, life: float, sets: int, workers: int) -> tuple[int, Objects, local_sts.LocalSts]:
    with local_sts.LocalSts() as sts:
        sts.lifetime = life
        objects = Objects(sts.expires, life)
        path = f"/tmp/shmcreds-libraries-{os.getpid()}-{time.monotonic_ns()}"
        session = shmcreds.RefreshableSession(
            assume_role_kwargs={"RoleArn": local_sts.ROLE}, sts_client_kwargs=sts.client, region_name=REGION, shared=False
        )
        export = session.export() if by == "export" else None
        pids = []
        for _ in range(workers):
            pid = os.fork()
            if pid == 0:
                os._exit(min(read_until(path, make, objects.url, None if export else session), 100))
            pids.append(pid)
        end = time.monotonic() + 60 + life * (sets + 1)
        # The last set is in use for a moment.
        while (len(sts.calls) < sets or len(objects.keys) < sets) and time.monotonic() < end:
            time.sleep(0.05)
        open(path, "w").close()
        failed = sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in pids)
        os.unlink(path)
        if export is not None:
            export.close()
        objects.close()
        return failed, objects, sts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--by", choices=["export", "adapter"], default="export")
    parser.add_argument("--lives")
    parser.add_argument("--shortest", action="store_true")
    parser.add_argument("--beside", type=int, default=4)
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--sets", type=int, default=4, help="three rotations by default")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("libraries", nargs="*", metavar="LIBRARY", help=", ".join(LIBRARIES))
    given = parser.parse_args()
    if given.shortest:
        return shortest(given)
    given.lives = given.lives or "15"
    # Who assumes the role; nothing else of this user's settings.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_ACCESS_KEY_ID="AKIABASE", AWS_SECRET_ACCESS_KEY="s", AWS_EC2_METADATA_DISABLED="true")
    os.environ.update(AWS_REGION=REGION, AWS_DEFAULT_REGION=REGION)
    bad = 0
    for library in given.libraries or LIBRARIES:
        for life in map(float, given.lives.split(",")):
            # A process of its own: libraries have threads, and settings of the process.
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                os._exit(tried(library, given, life))
            bad += os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    sys.exit(bad > 0)


def shortest(given: argparse.Namespace) -> None:
    """Prints the table. Each life is tried in a process of its own."""
    lives = sorted(map(float, (given.lives or "60,30,20,15,12,10,8,5,3").split(",")), reverse=True)
    pairs = [
        (library, by)
        for library in given.libraries or LIBRARIES
        for by in ("export", "adapter")
        if by == "export" or library not in WITHOUT_ADAPTER
    ]
    print(f"{datetime.date.today()}, Python {sys.version.split()[0]}, lives of {', '.join(f'{life:g}' for life in lives)} s\n")
    print("| library | version | by | shortest life without a late signature | longest use after a newer set | then |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with concurrent.futures.ThreadPoolExecutor(given.beside) as threads:
        for row in threads.map(lambda pair: measured(*pair, lives, given), pairs):
            print(row, flush=True)


def measured(library: str, by: str, lives: list[float], given: argparse.Namespace) -> str:
    """The row of the table for a library."""
    survived, kept, then = "none", 0.0, "-"
    for life in lives:
        command = [sys.executable, __file__, "--json", "--by", by, "--lives", f"{life:g}"]
        command += ["--sets", str(given.sets), "--workers", str(given.workers), library]
        done = subprocess.run(command, capture_output=True, text=True)
        told = done.stdout.splitlines()
        found = json.loads(told[-1]) if told else {"good": False, "late": 0, "failed": -1, "kept": 0.0}
        kept = max(kept, found["kept"] / life)
        if not found["good"]:
            reason = "" if found["late"] or not done.stderr else f": {done.stderr.splitlines()[-1][:90]}"
            then = f"{life:g} s: {found['late']} late, {found['failed']} workers failed{reason}"
            break
        survived = f"{life:g} s"
    version = importlib.metadata.version(PACKAGES.get(library, library))
    return f"| {library} | {version} | {by} | {survived} | {kept:.2f} | {then} |"


def tried(library: str, given: argparse.Namespace, life: float) -> int:
    make = LIBRARIES[library]
    if given.by == "adapter" and library in WITHOUT_ADAPTER:
        print(f"-     {library} has no adapter: it takes the endpoint of export()", flush=True)
        return 0
    failed, objects, sts = run(make, given.by, life, given.sets, given.workers)
    ends = sorted(sts.expires.values())
    apart = min((later - earlier for earlier, later in zip(ends, ends[1:], strict=False)), default=0.0)
    good = not (failed or objects.late) and len(objects.keys) >= given.sets
    good = good and apart > 0.45 * life and set(sts.callers) == {"AKIABASE"}
    if given.json:
        print(json.dumps({"good": good, "late": objects.late, "failed": failed, "kept": objects.kept}), flush=True)
        return 0 if good else 1
    print(
        f"{'OK   ' if good else 'FAULT'} {library} by {given.by}, sets of {life:g} s: workers that failed {failed}, signed "
        f"late {objects.late}, arrived late {objects.slow}, keys {len(objects.keys)}, calls {len(sts.calls)}, at least "
        f"{apart:.1f} s apart",
        flush=True,
    )
    return 0 if good else 1


if __name__ == "__main__":
    main()
