#!/usr/bin/env python3
"""A tmpfs that is full when a session is exported: full.py PROGRAM SET, in a mount namespace of its own.

Prints a line for each thing that was tried, and ends with 1 if one is not as it must be."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

PROGRAM, SET = sys.argv[1:]
MEMORY, FILL = "/dev/shm", "/dev/shm/fill"
PAGE = 4096
bad = 0


def say(good, what):
    global bad
    bad += not good
    print(f"{'ok  ' if good else 'FAIL'} full, {what}", flush=True)


def until(what, is_so):
    end = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > end:
            raise SystemExit(f"FAIL full, waited in vain: {what}")
        time.sleep(0.02)


def fill(free_pages):
    """Leaves so many pages of the tmpfs."""
    with open(FILL, "wb", 0) as file:
        try:
            while True:
                file.write(bytes(PAGE))
        except OSError:
            pass
        file.truncate(max(file.tell() - free_pages * PAGE, 0))


def listed():
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(MEMORY) for name in [".", *names] if name != "fill")


class Join:
    """One `shmcreds export`, and what it gives."""

    def __init__(self, **variables):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            environment = {**os.environ, "NO_COLOR": "1", **variables}
            done = subprocess.run(
                [PROGRAM, "export", "full"], stdin=theirs, capture_output=True, text=True, env=environment, timeout=60
            )  # fmt: skip
            self.error = done.stderr.strip() if done.returncode else None
            self.descriptors = []
            if self.error is None:
                text, self.descriptors, _, _ = socket.recv_fds(ours, 1 << 16, 3)
                told = json.loads(text)
                self.pid, self.set = told["pid"], told["set"]

    def key(self):
        request = urllib.request.Request(self.set["AWS_CONTAINER_CREDENTIALS_FULL_URI"])
        with open(self.set["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]) as file:
            request.add_header("Authorization", file.read())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=20) as answer:
            return json.load(answer)["AccessKeyId"]

    def close(self):
        for descriptor in self.descriptors:
            os.close(descriptor)


def is_clear(error):
    """Whether it says what failed, why, and no bare number."""
    return error is not None and "No space left" in error and "os error" not in error


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            main_lives = file.read().rpartition(") ")[2][0] != "Z"
        # The first thread may end before the others, which hold all that the process has.
        return main_lives or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def with_little_room():
    refused = joined = 0
    for free in range(8):
        before = listed()
        fill(free)
        join = Join()
        if join.error is None:
            joined += 1
            good = join.key() == "ASIAEXAMPLE"
            join.close()
            until("the endpoint ends", lambda: listed() == before)
            say(good, f"{free} free pages: joins")
        else:
            refused += 1
            # A server that has started already ends by itself.
            until("nothing is left", lambda: listed() == before)
            say(is_clear(join.error), f"{free} free pages: {join.error}")
        os.unlink(FILL)
    say(refused > 0 and joined > 0, f"refused {refused} times, joined {joined} times")


def beside_an_endpoint():
    first = Join()
    fill(0)
    second = Join()
    say(second.error is None and second.pid == first.pid, f"another user of an endpoint: {second.error or 'joins'}")
    os.kill(first.pid, signal.SIGKILL)
    until("it is dead", lambda: not lives(first.pid))
    third = Join()
    say(third.error is None and third.set == first.set, f"after a kill: {third.error or 'the same address'}")
    say(third.key() == "ASIAEXAMPLE", "it serves")
    config = os.path.join(os.environ["HOME"], "config")
    with open(config, "w") as file:
        file.write("[default]\nregion = eu-west-3\n")
    other = Join(AWS_CONFIG_FILE=config)
    say(is_clear(other.error), f"a user with other settings: {other.error or 'joins'}")
    say(third.key() == "ASIAEXAMPLE", "it still serves the others")
    for join in (first, second, third):
        join.close()
    until("the endpoint ends", lambda: not lives(third.pid))
    os.unlink(FILL)


def without_inodes():
    before = listed()
    count = 0
    try:
        while True:
            os.close(os.open(f"{MEMORY}/inode-{count}", os.O_CREAT | os.O_WRONLY))
            count += 1
    except OSError:
        pass
    for free in range(1, 10):
        count -= 1
        os.unlink(f"{MEMORY}/inode-{count}")
        join = Join()
        join.close()
        until("nothing is left", lambda: [path for path in listed() if "inode-" not in path] == before)
        if join.error is None:
            say(free > 1, f"{free} free inodes: joins")
            break
        say(is_clear(join.error), f"{free} free inodes: {join.error}")
    else:
        say(False, "never joined")


subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64,mode=1777", "tmpfs", MEMORY], check=True)
home = tempfile.TemporaryDirectory()
os.environ.update(XDG_RUNTIME_DIR="/nowhere", HOME=home.name)
serve = subprocess.Popen(
    [PROGRAM, "serve", "--name", "full", "--process", "echo", "--process-arg", SET],
    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
)  # fmt: skip
try:
    serve.stdout.readline()
    status = [PROGRAM, "status", "full"]
    until("it has a set", lambda: subprocess.run(status, stdout=subprocess.DEVNULL).returncode == 0)
    with_little_room()
    beside_an_endpoint()
    without_inodes()
finally:
    serve.terminate()
    serve.wait()
    home.cleanup()
left = [name for name in os.listdir(MEMORY) if not name.startswith("inode-")]
say(not left, f"nothing is left at the end: {left}")
sys.exit(bad > 0)
