"""moto in a process of its own, playing AWS."""

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

LIMIT = 60  # seconds that nothing here takes, on however busy a machine
ROLE = "arn:aws:iam::123456789012:role/app"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(what, event):
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        result = event()
        if result:
            return result
        time.sleep(0.02)
    sys.exit(f"{what}: not within {LIMIT} s")


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except (urllib.error.URLError, OSError):
        return False


def post(url):
    request = urllib.request.Request(url, data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=LIMIT) as answer:
        return answer.read()


def get(url):
    with urllib.request.urlopen(url, timeout=LIMIT) as answer:
        return answer.read()


class Moto:
    """A server, with a record of the forms that it was sent."""

    def __init__(self, command):
        self.command = command
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.folder = tempfile.TemporaryDirectory()
        environment = os.environ | {"MOTO_RECORDER_FILEPATH": f"{self.folder.name}/recording"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [command, "-H", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, env=environment, **quiet)

    def __enter__(self):
        until("moto answers", lambda: answers(f"{self.url}/moto-api/"))
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def recorded(self, action):
        """Runs the action; gives the forms that arrived meanwhile."""
        for command in ("reset-recording", "start-recording"):
            post(f"{self.url}/moto-api/recorder/{command}")
        action()
        post(f"{self.url}/moto-api/recorder/stop-recording")
        forms = []
        for line in get(f"{self.url}/moto-api/recorder/download-recording").splitlines():
            request = json.loads(line)
            body = request["body"] or ""
            body = base64.b64decode(body).decode() if request.get("body_encoded") else body
            forms.append(dict(urllib.parse.parse_qsl(body, keep_blank_values=True)))
        return forms
