"""Programs that know nothing of shmcreds, eight processes each, beside and under it: moto plays AWS and counts
the calls of AssumeRole.

usage: unmodified.py VENV SHMCREDS LIST_BUCKETS NODE_FOLDER
"""

import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import tempfile

from moto_aws import LIMIT, ROLE, Moto, free_port, get, until

WORKERS = 8
HERE = pathlib.Path(__file__).parent / "clients"


def lines(process):
    out, _ = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, process.returncode
    return out.split()


def gunicorn_command(venv, port):
    command = [f"{venv}/bin/gunicorn", "--workers", str(WORKERS), "--bind", f"127.0.0.1:{port}"]
    return [*command, "--chdir", str(HERE), "--log-level", "error", "wsgi:app"]


def workers(process, port):
    """Asks until every worker of gunicorn has answered; gives the key that each uses."""
    keys = {}

    def asked():
        assert process.poll() is None, process.returncode
        try:
            answer = json.loads(get(f"http://127.0.0.1:{port}/"))
        except OSError:
            return False
        keys[answer["pid"]] = answer["key"]
        return len(keys) == WORKERS

    until("every worker of gunicorn answers", asked)
    return keys


def gunicorn(run, venv):
    port = free_port()
    process = run(gunicorn_command(venv, port))
    try:
        keys = workers(process, port)
    finally:
        process.terminate()
        process.wait(LIMIT)
    assert process.returncode == 0, process.returncode
    return list(keys.values())


def node(run, folder):
    return lines(run(["node", f"{folder}/cluster.js"]))


def eight(run, command):
    """Eight at once, by a shell, so that they have one parent."""
    script = " & ".join([" ".join(command)] * WORKERS) + " & wait"
    return lines(run(["/bin/sh", "-c", script]))


def main():
    venv, shmcreds, list_buckets, node_folder = sys.argv[1:]
    with Moto(f"{venv}/bin/moto_server") as moto, tempfile.TemporaryDirectory() as home:
        cli = [f"{venv}/bin/python", str(HERE / "aws_cli.py"), f"{venv}/bin/aws"]
        clients = {
            "boto3 in gunicorn": lambda run: gunicorn(run, venv),
            "AWS SDK for JavaScript, Node cluster": lambda run: node(run, node_folder),
            "AWS SDK for Rust": lambda run: eight(run, [list_buckets]),
            "AWS CLI": lambda run: eight(run, cli),
        }
        plain = plain_environment(home, moto.url)
        keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "any"}
        rows = []
        for what, client in clients.items():
            alone = counted(moto, client, plain | {"AWS_PROFILE": "app"}, [])
            under = [shmcreds, "exec", "--role-arn", ROLE, "--"]
            endpoint = counted(moto, client, plain | keys, under)
            process = with_process(moto, client, plain, keys, shmcreds, home)
            rows.append((what, alone, endpoint, process))
        print(f"| {WORKERS} processes | alone | `shmcreds exec` | `credential_process` |")
        print("| --- | --- | --- | --- |")
        for what, alone, endpoint, process in rows:
            print(f"| {what} | {alone[0]} | {endpoint[0]} | {process[0]} |")
            # The AWS CLI keeps a set in a file, which processes that start later find.
            least = 1 if what == "AWS CLI" else WORKERS
            assert least <= alone[0] <= WORKERS, f"{what}, alone: {alone}"
            assert endpoint == (1, 1), f"{what}, under shmcreds exec: {endpoint}"
            assert process == (1, 1), f"{what}, by credential_process: {process}"
        cold(moto, plain | {"AWS_PROFILE": "app"}, plain | keys, under, venv)
        for what in list(clients)[1:]:
            rotation(what, moto, clients[what], plain | keys, shmcreds)
        troubles(moto, plain | keys, shmcreds, venv)


def rotation(what, moto, client, environment, shmcreds):
    """Two cycles of one session, with the client's processes in each."""

    def run(command):
        again = f'{shlex.join(command)} && {shmcreds} refresh "$SHMCREDS_SESSION" >&2 && {shlex.join(command)}'
        under = [shmcreds, "exec", "--role-arn", ROLE, "--", "/bin/sh", "-c", again]
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(under, env=environment, text=True, **quiet)

    used = []
    calls = assumed(moto.recorded(lambda: used.extend(client(run))))
    cycles = [set(used[:WORKERS]), set(used[WORKERS:])]
    assert len(used) == 2 * WORKERS and [len(keys) for keys in cycles] == [1, 1], used
    assert cycles[0] != cycles[1] and calls == 2, (used, calls)
    print(f"{what}: two cycles, a key for each, {calls} calls")


def troubles(moto, environment, shmcreds, venv):
    """One gunicorn through a rotation, an outage of STS and the death of a worker. boto3 asks for sets that live 900 s
    at each request, so that it sees the next one at once."""
    port, name = free_port(), f"troubles-{os.getpid()}"
    refresh = [shmcreds, "refresh", name]
    quiet = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}

    with Moto(moto.command) as sts:
        environment = environment | {"AWS_ENDPOINT_URL_STS": sts.url}
        command = [shmcreds, "exec", "--name", name, "--role-arn", ROLE, "--duration-seconds", "900", "--"]
        seen = []

        def two_cycles():
            seen.append(subprocess.Popen([*command, *gunicorn_command(venv, port)], env=environment))
            seen.append(workers(seen[0], port))
            assert subprocess.run(refresh, timeout=LIMIT, **quiet).returncode == 0
            seen.append(workers(seen[0], port))

        try:
            calls = assumed(sts.recorded(two_cycles))
            server, before, after = seen
            keys = [set(before.values()), set(after.values())]
            assert [len(each) for each in keys] == [1, 1] and keys[0] != keys[1], seen
            assert calls == 2, calls
            sts.process.kill()
            assert subprocess.run(refresh, timeout=LIMIT, **quiet).returncode == 69
            assert workers(server, port) == after
            os.kill(min(after), signal.SIGKILL)
            until("another takes its place", lambda: set(workers(server, port)) - set(after))
            assert set(workers(server, port).values()) == keys[1]
        finally:
            seen[0].terminate()
            assert seen[0].wait(LIMIT) == 0
    print("gunicorn: all see a rotation; without STS, and with a worker killed, all go on with the same key")


def assumed(forms):
    return sum(form.get("Action") == "AssumeRole" for form in forms)


def cold(moto, alone, shared, under, venv):
    """64 workers of botocore that start at once."""
    command = [f"{venv}/bin/python", str(HERE.parent / "cold.py")]
    for what, environment, prefix in (("alone", alone, []), ("shmcreds exec", shared, under)):
        answers = []

        def run(prefix=prefix, environment=environment, answers=answers):
            answer = subprocess.check_output([*prefix, *command], env=environment, timeout=LIMIT)
            answers.append(json.loads(answer))

        calls = assumed(moto.recorded(run))
        print(f"64 workers of botocore, {what}: {calls} calls, {answers[0]}")
        assert (calls, answers[0]["keys"]) == ((1, 1) if prefix else (64, 64)), (what, calls)


def plain_environment(home, url):
    """A machine with a profile whose role every process assumes for itself."""
    config = pathlib.Path(home) / "config"
    config.write_text(
        f"[profile app]\nrole_arn = {ROLE}\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = any\n"
    )
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return kept | {
        "HOME": home,
        "AWS_CONFIG_FILE": str(config),
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_STS": url,
        "AWS_ENDPOINT_URL_S3": url,
        "NODE_NO_WARNINGS": "1",
    }


def counted(moto, client, environment, prefix):
    """How many calls of AssumeRole the client's processes made, and how many keys they use."""

    def run(command):
        return subprocess.Popen(
            [*prefix, *command], env=environment, stdout=subprocess.PIPE, text=True
        )

    used = []
    forms = moto.recorded(lambda: used.extend(client(run)))
    assert len(used) == WORKERS, used
    assert all(key.startswith("ASIA") for key in used), used
    return assumed(forms), len(set(used))


def with_process(moto, client, plain, keys, shmcreds, home):
    """The same by `credential_process`, beside a sidecar."""
    config = pathlib.Path(home) / "process"
    config.write_text(f"[default]\ncredential_process = {shmcreds} credentials interop-{os.getpid()}\n")
    command = [shmcreds, "serve", "--name", f"interop-{os.getpid()}", "--role-arn", ROLE]

    def both(run):
        sidecar = subprocess.Popen(command, env=plain | keys, stdout=subprocess.PIPE, text=True)
        try:
            url = sidecar.stdout.readline().strip().rsplit("/", 1)[0]
            until("the sidecar is ready", lambda: ready(url))
            return client(run)
        finally:
            sidecar.terminate()
            assert sidecar.wait(LIMIT) == 0

    return counted(moto, both, plain | {"AWS_CONFIG_FILE": str(config)}, [])


def ready(url):
    try:
        return get(f"{url}/ready") == b"ready\n"
    except OSError:
        return False


main()
