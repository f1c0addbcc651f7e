"""kubernetes.yaml: valid by the schemas of the oldest Kubernetes that it is for and of the newest known one, and its
commands, environments and probe run as written, save for the port and the paths."""

import pathlib
import subprocess
import tempfile

import yaml

from deployment import EXAMPLES, SHMCREDS, VENV, Running, assumed, key_of, moto, plain
from moto_aws import LIMIT, free_port, until

MANIFEST = EXAMPLES / "kubernetes.yaml"


def validate():
    for version in (["-k", "1.29"], []):
        command = [f"{VENV}/bin/kubernetes-validate", "--strict", *version, str(MANIFEST)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stdout + done.stderr


def pod(folder, port):
    """The pod's sidecar, application and specification, with paths and a port of our own."""
    text = MANIFEST.read_text().replace("/run/", f"{folder}/").replace("9911", str(port))
    deployment = [part for part in yaml.safe_load_all(text) if part["kind"] == "Deployment"][0]
    spec = deployment["spec"]["template"]["spec"]
    return spec["initContainers"][0], spec["containers"][0], spec


def environment_of(container):
    # The name of the pod is what the field of the manifest stands for.
    return {each["name"]: each.get("value", "app-7d9f") for each in container.get("env", [])}


def check_what_they_share(sidecar, app, spec):
    token = environment_of(app)["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
    assert f"--token-file={token}" in sidecar["command"], token
    mounts = [{m["name"] for m in each["volumeMounts"] if token.startswith(m["mountPath"] + "/")} for each in (sidecar, app)]
    assert mounts == [{"endpoint-token"}] * 2, mounts
    volume = next(volume for volume in spec["volumes"] if volume["name"] == "endpoint-token")
    assert volume["emptyDir"]["medium"] == "Memory", volume
    users = [each.get("securityContext", {}).get("runAsUser") for each in (sidecar, app)]
    assert spec["securityContext"]["runAsUser"] and users == [None, None], "one user for both"


def run(sidecar, app, aws, folder):
    for name in ("shmcreds", "service-account"):
        (pathlib.Path(folder) / name).mkdir()
    (pathlib.Path(folder) / "service-account/token").write_text("signed by the cluster")
    base = plain(aws)
    command = [SHMCREDS, *sidecar["command"][1:]]
    probe = [SHMCREDS, *sidecar["startupProbe"]["exec"]["command"][1:]]
    absent = subprocess.run(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=LIMIT)
    assert absent.returncode == 3, absent
    with Running(command, env=base | environment_of(sidecar), stdout=subprocess.DEVNULL):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": LIMIT}
        until("the startup probe passes", lambda: subprocess.run(probe, **quiet).returncode == 0)
        keys = {key_of(base | environment_of(app)) for _ in range(2)}
    assert len(keys) == 1 and min(keys).startswith("ASIA"), keys


def main():
    validate()
    with moto() as aws, tempfile.TemporaryDirectory() as folder:
        sidecar, app, spec = pod(folder, free_port())
        check_what_they_share(sidecar, app, spec)
        forms = aws.recorded(lambda: run(sidecar, app, aws, folder))
        assert assumed(forms) == ["AssumeRoleWithWebIdentity"], forms
    print("kubernetes: the manifest is valid, the sidecar gets ready, the application's clients have one key of 1 call")


main()
