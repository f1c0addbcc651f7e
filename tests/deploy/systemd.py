"""shmcreds@.service and use-shmcreds.conf: verified and rated by systemd, and the service's command run with the
environment that the application's drop-in makes. systemd itself is not running here: a socket stands for it."""

import ctypes
import os
import pathlib
import resource
import shlex
import socket
import subprocess
import tempfile

from deployment import EXAMPLES, KEYS, SHMCREDS, Running, assumed, key_of, moto, plain
from moto_aws import LIMIT, ROLE, free_port

UNIT = "shmcreds@app.service"
# In tenths: "OK" begins at 3.3 or so; an application without any protection has 9.6.
WORST = 20
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1


def text_of(name, folder, port):
    text = (EXAMPLES / name).read_text().replace("/usr/local/bin/shmcreds", SHMCREDS).replace("9911", str(port))
    # What the specifiers stand for.
    return text.replace("/run/", f"{folder}/").replace("%t", folder).replace("%i", "app")


def settings(text, name):
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return [value for key, _, value in lines if key == name]


def analyze(folder, port):
    unit = pathlib.Path(folder) / UNIT
    # An instance's specifiers are left to systemd.
    unit.write_text((EXAMPLES / "shmcreds@.service").read_text().replace("/usr/local/bin/shmcreds", SHMCREDS))
    app = pathlib.Path(folder) / "app.service"
    app.write_text("[Service]\nExecStart=/bin/true\n")
    drop_in = pathlib.Path(folder) / "app.service.d"
    drop_in.mkdir()
    (drop_in / "use-shmcreds.conf").write_text((EXAMPLES / "use-shmcreds.conf").read_text())
    for command in (
        ["verify", str(unit), str(app)],
        ["security", "--no-pager", "--offline=true", f"--threshold={WORST}", str(unit)],
    ):
        done = subprocess.run(["systemd-analyze", *command], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr
        complaints = [line for line in done.stderr.splitlines() if folder in line or UNIT in line]
        assert not complaints, complaints
    return done.stdout.strip().splitlines()[-1]


def confine():
    """What of the unit's confinement a process can do to itself."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 20, 1 << 20))
    # Kernels before 6.3 do not know it.
    ctypes.CDLL(None).prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)
    os.umask(0o077)


def run(aws, folder, port):
    unit, drop_in = (text_of(name, folder, port) for name in ("shmcreds@.service", "use-shmcreds.conf"))
    config = pathlib.Path(folder) / "app.toml"
    config.write_text(f'role-arn = "{ROLE}"\nlisten = "127.0.0.1:{port}"\n')
    (pathlib.Path(folder) / "shmcreds/app").mkdir(parents=True)
    [command] = settings(unit, "ExecStart")
    command = shlex.split(command.replace("/etc/shmcreds/app.toml", str(config)))
    base = plain(aws) | KEYS
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{folder}/notify")
        systemd.settimeout(LIMIT)
        environment = base | {"NOTIFY_SOCKET": f"{folder}/notify"}
        with Running(command, env=environment, stdout=subprocess.DEVNULL, preexec_fn=confine):
            assert systemd.recv(100).strip() == b"READY=1"
            application = base | {"AWS_PROFILE": "nobody"}
            for name in " ".join(settings(drop_in, "UnsetEnvironment")).split():
                application.pop(name, None)
            words = " ".join(settings(drop_in, "Environment")).split()
            application |= dict(word.split("=", 1) for word in words)
            keys = {key_of(application) for _ in range(2)}
        assert systemd.recv(100).strip() == b"STOPPING=1"
    assert len(keys) == 1 and min(keys).startswith("ASIA"), keys
    assert not os.path.exists(f"{folder}/shmcreds/app/token")


def main():
    with moto() as aws, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        rated = analyze(folder, port)
        forms = aws.recorded(lambda: run(aws, folder, port))
        assert assumed(forms) == ["AssumeRole"], forms
    print(f"systemd: verified; {rated.lstrip('→ ')}; ready, used, stopped: 1 call of STS")


main()
