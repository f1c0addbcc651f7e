"""gunicorn.conf.py: eight workers, a reload, a killed worker: one call of STS, one key."""

import json
import os
import signal
import subprocess

from deployment import CLIENTS, EXAMPLES, EXEC, KEYS, VENV, Running, assumed, moto, plain
from moto_aws import LIMIT, free_port, get, until

WORKERS = 8
GUNICORN = [f"{VENV}/bin/gunicorn", "-c", str(EXAMPLES / "gunicorn.conf.py"), "--chdir", str(CLIENTS)]
GUNICORN += ["--log-level", "error", "wsgi:app"]


def answering(url, keys, count, without=()):
    """Asks until as many workers as that, none of them in `without`, have answered; gives their pids."""
    pids = set()

    def asked():
        try:
            answer = json.loads(get(url))
        except (OSError, json.JSONDecodeError):
            return False
        keys.add(answer["key"])
        pids.update({answer["pid"]} - set(without))
        return len(pids) >= count

    until(f"{count} workers answer", asked)
    return pids


def serve(environment, port, keys):
    url = f"http://127.0.0.1:{port}/"
    with Running([*EXEC, *GUNICORN], env=environment) as shmcreds:
        first = answering(url, keys, WORKERS)
        shmcreds.send_signal(signal.SIGHUP)
        second = answering(url, keys, WORKERS, first)
        os.kill(min(second), signal.SIGKILL)
        answering(url, keys, 1, first | second)


def main():
    with moto() as aws:
        port = free_port()
        environment = plain(aws) | KEYS | {"BIND": f"127.0.0.1:{port}", "WEB_CONCURRENCY": str(WORKERS)}
        keys = set()
        forms = aws.recorded(lambda: serve(environment, port, keys))
        assert assumed(forms) == ["AssumeRole"], forms
        assert len(keys) == 1 and min(keys).startswith("ASIA"), keys
        alone = subprocess.run(GUNICORN, env=environment, capture_output=True, text=True, timeout=LIMIT)
        assert alone.returncode != 0 and "shmcreds exec" in alone.stderr, alone
    print(f"gunicorn: {WORKERS} workers, reloaded, one killed: 1 call of STS, 1 key")


main()
