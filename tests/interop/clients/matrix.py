"""Clients that nobody here wrote, each run for real under `shmcreds exec` and beside `shmcreds serve`: which forms of
the endpoint each one reads, how many calls of STS that costs, and whether it sees a new set.

Prints the table of docs/CLIENTS.md, and fails where a client does something else than `clients.py` says. Without
`--all` only clients that come from PyPI and npm are tried. A client that is not on this machine is named.
"""

import argparse
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from aws import Aws
from clients import FORMS, clients

HERE = pathlib.Path(__file__).parent
LIMIT = 120
REGION = "eu-north-1"
ROLE = "arn:aws:iam::123456789012:role/app"
ENDPOINT = "AWS_CONTAINER_CREDENTIALS_FULL_URI"
TOKEN, TOKEN_FILE = "AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
# What each form takes away from CMD.
WITHOUT = {
    "both": [],
    "variable": [TOKEN_FILE],
    "file": [TOKEN],
    "region": ["AWS_REGION", "AWS_DEFAULT_REGION"],
    "process": [ENDPOINT, TOKEN, TOKEN_FILE],
    "keys": [ENDPOINT, TOKEN, TOKEN_FILE],
}
OPTIONS = {"process": ["--credential-process"], "keys": ["--static-keys"]}
# How long the sets live that the clients see rotate, in seconds.
LIFE = 20


def environment(aws, folder):
    """A machine with one profile, whose Region nothing else says, and with a proxy that nobody answers at."""
    config = folder / "config"
    config.write_text(f"[default]\nregion = {REGION}\n")
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return kept | {
        "HOME": str(folder),
        "AWS_CONFIG_FILE": str(config),
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_ENDPOINT_URL_STS": aws.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NODE_NO_WARNINGS": "1",
    }


def own(client, variables, aws):
    """The environment of one client."""
    kept = {key: value for key, value in variables.items() if not client.no_bypass or key.upper() != "HTTP_PROXY"}
    return kept | client.variables | {"S3_URL": aws.url}


def wrapped(form, command):
    """The command as CMD has to be for that form."""
    return ["env", *[word for variable in WITHOUT[form] for word in ("-u", variable)], *command]


def tried(client, form, shmcreds):
    """Runs the client under `exec`: what S3 saw, how many calls that took, and what the client said."""
    with tempfile.TemporaryDirectory() as folder, Aws() as aws:
        folder = pathlib.Path(folder)
        # Names beside each other's on one machine.
        name = f"clients-{os.getpid()}-{folder.name}"
        command = client.command(folder, aws.url)
        line = [shmcreds, "exec", "--name", name, "--role-arn", ROLE, *OPTIONS.get(form, []), "--"]
        line += wrapped(form, command)
        variables = own(client, environment(aws, folder), aws)
        ran = subprocess.run(line, env=variables, capture_output=True, text=True, timeout=LIMIT)
        keys = aws.keys()
        found = keys == ["ASIAEXAMPLE00001"]
        if form == "region":
            found = found and aws.regions() == {REGION}
        said = f"{client.name}, {form}: exit {ran.returncode}, keys {keys} {aws.regions()}, {aws.calls} calls\n"
        return found, aws.calls, keys, said + ran.stdout[-600:] + ran.stderr[-1500:]


def rotation(those, shmcreds):
    """All clients at once, beside one `serve`: each asks, waits until its set has expired, and asks again."""
    with tempfile.TemporaryDirectory() as folder, Aws(LIFE) as sts:
        folder = pathlib.Path(folder)
        name, token = f"rotation-{os.getpid()}", folder / "token"
        variables = environment(sts, folder)
        command = [shmcreds, "serve", "--name", name, "--role-arn", ROLE, "--token-file", str(token)]
        server = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True)
        try:
            url = server.stdout.readline().strip()
            variables = {key: value for key, value in variables.items() if not key.startswith("AWS_")} | {
                "AWS_CONFIG_FILE": "/dev/null",
                "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
                "AWS_REGION": REGION,
                "AWS_DEFAULT_REGION": REGION,
                "AWS_EC2_METADATA_DISABLED": "true",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                ENDPOINT: url,
                TOKEN: token.read_text().strip(),
                TOKEN_FILE: str(token),
                "AGAIN_AFTER": str(LIFE + 5),
            }
            with concurrent.futures.ThreadPoolExecutor(max(1, len(those))) as pool:
                asked = [pool.submit(asks_twice, client, folder, variables) for client in those]
            rotated = {client.name: each.result() for client, each in zip(those, asked)}
        finally:
            server.terminate()
            assert server.wait(LIMIT) == 0
        return rotated, sts.calls


def asks_twice(client, folder, variables):
    with Aws() as aws:
        command = client.command(folder, aws.url)
        ran = subprocess.run(command, env=own(client, variables, aws), capture_output=True, text=True, timeout=LIMIT)
        keys = aws.keys()
        return len(keys) == 2 and "anonymous" not in keys, f"{client.name}: {keys} {ran.stderr[-1000:]}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--only", action="append")
    parser.add_argument("--learn", action="store_true", help="prints what was found, and asserts nothing")
    parser.add_argument("--old-venv", default="/nonexistent")
    parser.add_argument("--go", default="/nonexistent", help="where go_v1.go and go_v2.go were built")
    parser.add_argument("--ruby", nargs="*", default=[], help="folders of the newest SDK for Ruby")
    parser.add_argument("--php", default="/nonexistent", help="the autoloader of the SDK for PHP")
    parser.add_argument("--venv", required=True)
    parser.add_argument("--shmcreds", required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--list-buckets", required=True)
    options = parser.parse_args()
    known = [each for each in clients(options) if options.all or each.is_quick]
    known = [each for each in known if not options.only or each.name in options.only]
    versions = {each.name: each.version() for each in known}
    absent = [each.name for each in known if versions[each.name] is None]
    those = [each for each in known if versions[each.name] is not None]
    began = time.monotonic()
    wrong, rows = [], {each.name: {} for each in those}
    twice = [each for each in those if each.is_long]
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        rotating = pool.submit(rotation, twice, options.shmcreds)
        runs = {
            (each.name, form): pool.submit(tried, each, form, options.shmcreds)
            for each in those
            for form in FORMS
        }
    for (name, form), run in runs.items():
        rows[name][form] = run.result()
    rotated, calls = rotating.result()
    print("| client | version | " + " | ".join(FORMS.values()) + " | new set seen | calls |")
    print("| --- " * (len(FORMS) + 4) + "|")
    for each in those:
        cells = []
        for form in FORMS:
            found, count, keys, said = rows[each.name][form]
            cells.append("yes" if found else "anonymous" if "anonymous" in keys else "no")
            if count != 1:
                wrong.append(f"{count} calls, not 1: {said}")
            if cells[-1] != each.expected(form):
                wrong.append(f"expected {each.expected(form)}: {said}")
        seen, said = rotated.get(each.name, (None, ""))
        cells.append("" if seen is None else "yes" if seen else "no")
        if seen is not None and seen != each.sees_rotation:
            wrong.append(f"rotation, {said}")
        print(f"| {each.name} | {versions[each.name]} | " + " | ".join(cells) + " | 1 |")
    for name in absent:
        print(f"UNTRIED: {name}: not on this machine")
    print(f"{len(those)} clients, {len(runs)} runs of one call each, one session of {calls} sets, "
          f"{time.monotonic() - began:.0f} s")
    if options.learn:
        print("\n".join(wrong))
    elif wrong:
        sys.exit("\n".join(wrong))
    assert those, "no client could be tried"


main()
