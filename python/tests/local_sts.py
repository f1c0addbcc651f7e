"""An STS on 127.0.0.1 that counts its calls, and fails or waits on demand."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import http.server
import re
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import escape

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/app"
#: An answer that nobody releases goes out all the same. botocore would give up after 60 s.
_LONGEST_HOLD = 45.0
_XMLNS = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclasses.dataclass
class Failure:
    code: str
    message: str = "no"
    status: int = 403


class LocalSts:
    """Start it with ``with``. The attributes can be changed at any time."""

    def __init__(self) -> None:
        self.lifetime = 3600.0
        #: So many sets live for `lifetime`, and those after them for an hour. None: all do.
        self.short_sets: int | None = None
        self.delay = 0.0
        self._released = threading.Event()
        self._released.set()
        self._answers_first = 0
        #: The numbers of the calls that were answered.
        self.answered: list[int] = []
        self.failure: Failure | None = None
        #: Moves the `Date` header and the expiry.
        self.skew = 0.0
        #: The inputs of each AssumeRole.
        self.calls: list[dict[str, str]] = []
        #: The access key that signed each of them.
        self.callers: list[str] = []
        #: When the set of each key expires.
        self.expires: dict[str, float] = {}
        self.entered = threading.Event()
        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> LocalSts:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def holding(self, after: int = 0) -> Iterator[None]:
        """No call but the first ``after`` is answered before the body ends, or calls :meth:`release`. So what happens
        meanwhile happens during a call, however slow the machine is."""
        self._answers_first = after
        self._released.clear()
        try:
            yield
        finally:
            self.release()

    def release(self) -> None:
        self._released.set()

    @property
    def client(self) -> dict[str, Any]:
        """Arguments for a session's ``sts_client_kwargs``."""
        return {"endpoint_url": self.url, "region_name": "us-east-1"}

    def key(self, number: int) -> str:
        """The access key of the set number ``number``, from 1."""
        return f"ASIA{number:016d}"

    def _answer(self, inputs: dict[str, str], caller: str) -> tuple[int, str]:
        if inputs["Action"] == "GetCallerIdentity":
            return 200, _identity(caller)
        with self._lock:
            self.calls.append(inputs)
            self.callers.append(caller)
            number = len(self.calls)
            self.entered.set()
        time.sleep(self.delay)
        if number > self._answers_first:
            self._released.wait(_LONGEST_HOLD)
        self.answered.append(number)
        if self.failure is not None:
            return self.failure.status, _error(self.failure)
        return 200, self._role(inputs, number)

    def _role(self, inputs: dict[str, str], number: int) -> str:
        is_short = self.short_sets is None or number <= self.short_sets
        lifetime = self.lifetime if is_short else 3600.0
        expires = time.time() + self.skew + float(inputs.get("DurationSeconds", lifetime))
        self.expires[self.key(number)] = expires
        moment = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
        name = inputs["RoleArn"].rsplit("/", 1)[-1]
        account = inputs["RoleArn"].split(":")[4]
        arn = f"arn:aws:sts::{account}:assumed-role/{name}/{inputs['RoleSessionName']}"
        return (
            f'<AssumeRoleResponse xmlns="{_XMLNS}"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{self.key(number)}</AccessKeyId>"
            f"<SecretAccessKey>secret-of-{self.key(number)}</SecretAccessKey>"
            f"<SessionToken>token-of-{self.key(number)}</SessionToken>"
            f"<Expiration>{moment.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}</Expiration></Credentials>"
            f"<AssumedRoleUser><Arn>{escape(arn)}</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>"
            f"</AssumeRoleResult><ResponseMetadata><RequestId>req-{number}</RequestId></ResponseMetadata>"
            f"</AssumeRoleResponse>"
        )

    def _handler(sts) -> type[http.server.BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the request's
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                caller = re.search("Credential=([^/]+)/", self.headers.get("Authorization", ""))
                inputs = dict(urllib.parse.parse_qsl(body))
                status, text = sts._answer(inputs, caller.group(1) if caller else "")
                try:
                    self.send_response_only(status)
                    date = datetime.datetime.fromtimestamp(time.time() + sts.skew, datetime.timezone.utc)
                    self.send_header("Date", date.strftime("%a, %d %b %Y %H:%M:%S GMT"))
                    request_id = re.search("<RequestId>(.*)</RequestId>", text)
                    self.send_header("x-amzn-RequestId", request_id.group(1) if request_id else "")
                    self.send_header("Content-Type", "text/xml")
                    self.send_header("Content-Length", str(len(text.encode())))
                    self.end_headers()
                    self.wfile.write(text.encode())
                except OSError:
                    pass  # The client has gone, or was killed.

            def log_message(self, *_: object) -> None: ...

        return Handler


def _identity(caller: str) -> str:
    role = f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s"
    arn = role if caller.startswith("ASIA") else f"arn:aws:iam::{ACCOUNT}:user/{caller}"
    return (
        f'<GetCallerIdentityResponse xmlns="{_XMLNS}"><GetCallerIdentityResult><Arn>{arn}</Arn>'
        f"<UserId>{caller}</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>"
        f"<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"
    )


def _error(failure: Failure) -> str:
    return (
        f'<ErrorResponse xmlns="{_XMLNS}"><Error><Type>Sender</Type><Code>{failure.code}</Code>'
        f"<Message>{failure.message}</Message></Error><RequestId>req-failed</RequestId></ErrorResponse>"
    )
