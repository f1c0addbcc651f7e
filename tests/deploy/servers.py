"""What is asked of every server of examples/deploy: eight workers answer, a worker that is killed is replaced, the
server is reloaded, and all that is one call of STS and one key."""

import concurrent.futures
import http.client
import json
import os
import signal
import urllib.request

from deployment import EXEC, KEYS, Running, assumed, plain
from moto_aws import free_port, until

WORKERS = 8
# A request that was handed to a worker that was killed is never answered, for example by a Node cluster. It must not
# take the time of the others.
PATIENCE = 5


def answering(url, keys, count, without=()):
    """Asks until as many workers as that, none of them in `without`, have answered; gives their pids. Asks many times
    at once: asked one by one, some servers let one worker do all."""
    pids = set()

    def ask(_):
        try:
            with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
                return json.loads(answer.read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    def asked():
        for answer in filter(None, pool.map(ask, range(2 * WORKERS))):
            keys.add(answer["key"])
            pids.update({answer["pid"]} - set(without))
        return len(pids) >= count

    with concurrent.futures.ThreadPoolExecutor(2 * WORKERS) as pool:
        until(f"{count} workers answer", asked)
    return pids


def environment(aws, port):
    return plain(aws) | KEYS | {
        "BIND": f"127.0.0.1:{port}",
        "WEB_CONCURRENCY": str(WORKERS),
        "S3_URL": aws.url,
    }


def serve(aws, command, more=(), reload=signal.SIGHUP, under=EXEC, **options):
    """Runs the server, and asks that of it."""
    port, keys = free_port(), set()
    url = f"http://127.0.0.1:{port}/"

    def run():
        with Running([*under, *command], env=environment(aws, port) | dict(more), **options) as shmcreds:
            pids = answering(url, keys, WORKERS)
            if reload:
                shmcreds.send_signal(reload)
                pids |= answering(url, keys, WORKERS, pids)
            last = max(pids, key=lambda pid: (is_alive(pid), pid))
            os.kill(last, signal.SIGKILL)
            answering(url, keys, 1, pids)

    forms = aws.recorded(run)
    assert assumed(forms) == ["AssumeRole"], (command, assumed(forms))
    assert len(keys) == 1 and min(keys).startswith("ASIA"), (command, keys)


def is_alive(pid):
    return os.path.exists(f"/proc/{pid}")
