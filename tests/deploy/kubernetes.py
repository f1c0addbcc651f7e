"""examples/deploy/kubernetes: valid by the schemas of the oldest Kubernetes that it is for and of the newest known one, and
its commands, environments and probes run as written, save for addresses, ports, paths and the group."""

import os
import pathlib
import subprocess
import tempfile

import yaml

from deployment import EXAMPLES, SHMCREDS, VENV, Running, assumed, key_of, moto, plain
from moto_aws import LIMIT, free_port, until

MANIFEST = EXAMPLES / "kubernetes/sidecar.yaml"
NODE = EXAMPLES / "kubernetes/node-agent.yaml"


def validate():
    for version in (["-k", "1.29"], []):
        command = [f"{VENV}/bin/kubernetes-validate", "--strict", *version, str(MANIFEST), str(NODE)]
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


def node(folder, port, group):
    """The agent, the container with the metrics, and the application, with an address, a path and a group of our own."""
    text = NODE.read_text().replace("/run/", f"{folder}/").replace("169.254.170.23:9911", f"127.0.0.1:{port}")
    text = text.replace("--group=10002", f"--group={group}").replace("0.0.0.0:9912", "127.0.0.1:0")
    by_kind = {part["kind"]: part for part in yaml.safe_load_all(text)}
    agents, app = by_kind["DaemonSet"]["spec"]["template"]["spec"], by_kind["Pod"]["spec"]
    return agents, app


def check_what_a_node_shares(agents, app):
    written = NODE.read_text()
    groups = [each["securityContext"]["supplementalGroups"] for each in (agents, app)]
    assert groups == [[10002], [10002]] and "--group=10002" in written and "chown 10001:10002" in written, groups
    assert agents["securityContext"]["runAsUser"] == 10001 != app["securityContext"]["runAsUser"]
    assert "ip address replace 169.254.170.23/32" in written and agents["hostNetwork"]
    paths = [each["volumes"][0]["hostPath"]["path"] for each in (agents, app)]
    assert paths[0] == paths[1], paths
    assert app["containers"][0]["volumeMounts"][0]["readOnly"], "an application cannot write there"
    agent, metrics = agents["containers"]
    environment = environment_of(app["containers"][0])
    assert f"--token-file={environment['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE']}" in agent["command"]
    listen = next(each for each in agent["command"] if each.startswith("--listen="))
    url = environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"]
    assert url == f"http://{listen.removeprefix('--listen=')}/credentials", (url, listen)
    directories = {environment_of(each)["SHMCREDS_DIR"] for each in (agent, metrics, app["containers"][0])}
    assert directories == {paths[0]}, directories


def run_node(agents, app, aws, folder):
    for name in ("shmcreds", "service-account"):
        (pathlib.Path(folder) / name).mkdir(mode=0o700)
    (pathlib.Path(folder) / "service-account/token").write_text("signed by the cluster")
    base, (agent, metrics) = plain(aws), agents["containers"]
    environment = base | environment_of(agent)
    probe = [SHMCREDS, *agent["readinessProbe"]["exec"]["command"][1:]]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": LIMIT, "env": environment}
    with Running([SHMCREDS, *agent["command"][1:]], env=environment, stdout=subprocess.DEVNULL):
        until("the readiness probe passes", lambda: subprocess.run(probe, **quiet).returncode == 0)
        keys = {key_of(base | environment_of(app["containers"][0])) for _ in range(2)}
        printed = [SHMCREDS, *metrics["command"][1:3]]
        text = subprocess.run(printed, env=base | environment_of(metrics), capture_output=True, text=True, timeout=LIMIT)
        assert "shmcreds_refresher_up 1" in text.stdout, text
    assert len(keys) == 1 and min(keys).startswith("ASIA"), keys


def main():
    validate()
    # A session must be in memory.
    with moto() as aws, tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        agents, app = node(folder, free_port(), os.getgid())
        check_what_a_node_shares(agents, app)
        forms = aws.recorded(lambda: run_node(agents, app, aws, folder))
        assert assumed(forms) == ["AssumeRoleWithWebIdentity"], forms
    print("kubernetes: the agent of a node gets ready, and the clients of a pod have one key of 1 call")
    with moto() as aws, tempfile.TemporaryDirectory() as folder:
        sidecar, app, spec = pod(folder, free_port())
        check_what_they_share(sidecar, app, spec)
        forms = aws.recorded(lambda: run(sidecar, app, aws, folder))
        assert assumed(forms) == ["AssumeRoleWithWebIdentity"], forms
    print("kubernetes: the manifest is valid, the sidecar gets ready, the application's clients have one key of 1 call")


main()
