"""A session for every library of a program, by the variables that their own chains read."""

from __future__ import annotations

import json
import os
import signal
import stat
import urllib.request

import botocore.exceptions
import botocore.session
import pytest
from local_sts import Failure
from support import finished, segments, start
from waiting import until

import shmcreds.export
from shmcreds import BRSConfigurationError, RefreshableSession, SharedSession, before

pytestmark = pytest.mark.program


def key_by_chain():
    return botocore.session.Session().get_credentials().get_frozen_credentials().access_key


def alive(pid):
    """A zombie is not, once all its threads have ended: they hold its lock."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            first_lives = file.read().rsplit(") ", 1)[1][0] != "Z"
        return first_lives or len(os.listdir(f"/proc/{pid}/task")) > 1
    except OSError:
        return False


def ask(url, token):
    request = urllib.request.Request(url, headers={"Authorization": token})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=20) as answer:
        return json.load(answer)["AccessKeyId"]


def ended(name):
    return not [entry for entry in os.listdir("/dev/shm") if entry.startswith("shmcreds-export-") and name in entry]


def told_by(process):
    return json.loads(process.stdout.readline())


def end(process):
    process.stdin.close()
    process.stdin = None
    finished(process)


def test_other_libraries_have_the_set_until_the_end_of_the_block(make, sts, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("NO_PROXY", "internal")
    config = os.path.join(os.environ["HOME"], "config")
    with open(config, "w") as file:
        file.write("[profile mine]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\nregion = eu-west-3\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", config)
    variables = dict(os.environ)
    session = make()
    with session.export() as export:
        assert key_by_chain() == sts.key(1) == session.credentials["access_key"]
        assert botocore.session.Session().get_config_variable("region") == "us-east-1"
        assert "AWS_ACCESS_KEY_ID" not in os.environ and "AWS_PROFILE" not in os.environ
        assert os.environ["NO_PROXY"].startswith("internal,127.0.0.1")
        token = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
        file = os.environ["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
        assert open(file).read() == token and token not in repr(export)
        assert file.startswith("/dev/shm/")
        if os.geteuid() != 0:
            assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
        # Who fetches stays the same.
        session.refresh()
        assert key_by_chain() == sts.key(2)
    assert dict(os.environ) == variables
    assert sts.callers == ["AKIABASE", "AKIABASE"]
    until(lambda: not alive(export._joined.pid))
    assert ended(export.name) and not os.path.exists(file)


def test_another_session_whose_profile_is_missing(make, sts, monkeypatch, tmp_path):
    other = make(role={"RoleSessionName": "other"})
    assert other.region_name == "us-east-1"  # Its configuration is read.
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    config = tmp_path / "config"
    config.write_text("[profile mine]\naws_access_key_id = AKIAFILE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    with make(region_name="us-east-1").export():
        assert key_by_chain() == sts.key(1)
        # It has no profile, and must not fetch with the set of the export.
        with pytest.raises(botocore.exceptions.ProfileNotFound):
            other.refresh()
    assert sts.callers == ["AKIAFILE"]


def test_a_block_in_a_block_and_what_the_program_changes_meanwhile(make):
    session = make()
    with session.export() as outer:
        with session.export() as inner:
            assert inner is outer
        assert before.note() is not None
        os.environ["AWS_PROFILE"] = "chosen meanwhile"
    try:
        assert before.note() is None
        assert os.environ["AWS_PROFILE"] == "chosen meanwhile"
    finally:
        del os.environ["AWS_PROFILE"]


def test_one_session_at_a_time(make):
    with make().export() as export:
        other = make(role={"RoleSessionName": "other"})
        with pytest.raises(BRSConfigurationError, match=f"{export.name} is exported already"):
            other.export()


def test_the_error_of_the_source_and_nothing_left(make, sts):
    sts.failure = Failure("AccessDenied", "not you")
    variables = dict(os.environ)
    session = make()
    with pytest.raises(Exception, match="not you"):
        session.export()
    assert dict(os.environ) == variables and ended(session._obtainer.store.name)


def test_a_session_by_name_that_another_process_fetches_for():
    source = lambda: dict(access_key="KEY", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")  # noqa: E731
    name = f"python-export-{os.getpid()}"
    made = SharedSession.create(name, source)
    made.credentials()
    with SharedSession.attach(name).export():
        assert key_by_chain() == "KEY"


def test_children_of_all_kinds(sts):
    (told,) = finished(start("exporting.py", "children", sts_url=sts.url, options=("-W", "error")))
    name = told.pop("name")
    assert all(found in ([sts.key(1)], [sts.key(1), sts.key(1), name]) for found in told.values()), told
    assert len(told) == 6 and len(sts.calls) == 1
    until(lambda: ended(name) and not segments(name))


def test_siblings_have_one_endpoint_that_ends_with_the_last(sts):
    processes = [start_holding(sts) for _ in range(3)]
    told = [told_by(process) for process in processes]
    assert len({one["url"] for one in told}) == len({one["pid"] for one in told}) == 1
    for process in processes[:2]:
        end(process)
    assert ask(told[0]["url"], told[0]["token"]) == sts.key(1)
    processes[2].kill()
    processes[2].communicate()
    until(lambda: not alive(told[0]["pid"]))
    assert ended(told[0]["name"])
    assert len(sts.calls) == 1


def test_a_killed_endpoint_starts_again_with_its_address(sts):
    processes = [start_holding(sts) for _ in range(2)]
    told = [told_by(process) for process in processes][0]
    for _ in range(2):
        killed = server_of(told["name"])
        os.kill(killed, signal.SIGKILL)
        until(lambda: server_of(told["name"]) not in (None, killed))
        assert ask(told["url"], told["token"]) == sts.key(1)
    for process in processes:
        end(process)
    until(lambda: ended(told["name"]))


def test_a_stopped_endpoint_goes_on(sts):
    process = start_holding(sts)
    told = told_by(process)
    server = server_of(told["name"])
    os.kill(server, signal.SIGSTOP)
    try:
        # The kernel takes connections also for a stopped process, so an answer says that it goes on.
        assert ask(told["url"], told["token"]) == sts.key(1)
    finally:
        os.kill(server, signal.SIGCONT)
    assert server_of(told["name"]) == server
    _, said = process.communicate(timeout=90)
    assert process.returncode == 0 and "the endpoint was stopped (SIGSTOP) and is continued" in said, said


def test_a_program_that_takes_the_place_of_this_one_keeps_the_endpoint(sts):
    process = start_holding(sts, "replaced")
    told = told_by(process)
    found = told_by(process)
    assert found == {"key": sts.key(1), "pid": told["pid"]}
    server = server_of(told["name"])
    assert server is not None
    end(process)
    until(lambda: not alive(server))
    assert ended(told["name"])


def test_an_endpoint_that_cannot_be_joined_in_time_is_an_error(make, monkeypatch, tmp_path):
    program = tmp_path / "shmcreds"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    session = make()
    monkeypatch.setattr(shmcreds.export, "find_bin", lambda: str(program))
    monkeypatch.setattr(shmcreds.export, "_JOIN_TIMEOUT", 0.2)
    with pytest.raises(BRSConfigurationError, match="did not end within 0.2 s"):
        session.export()
    assert before.VARIABLE not in os.environ


def test_a_forked_child_keeps_the_endpoint_and_the_sets_fresh(sts):
    # The last set stays. A busy machine may not see each of the others.
    sts.lifetime, sts.short_sets = 8.0, 2
    process = start_holding(sts, "orphan", TEST_LAST_KEY=sts.key(3))
    told = told_by(process)
    os.kill(told["pid"], signal.SIGKILL)
    out, err = process.communicate(timeout=90)
    found = json.loads(out)
    assert found["keys"] == sorted(set(found["keys"])) and found["keys"][-1] == sts.key(3), (found, err)
    assert len(sts.calls) == 3
    until(lambda: ended(found["name"]))


def test_a_process_that_closes_all_descriptors_joins_again(sts):
    """The log has a warning of the new address where the endpoint has ended meanwhile."""
    told, more = finished(start("exporting.py", "closes", sts_url=sts.url, PYTHONWARNINGS="ignore"))
    assert told == {"key": sts.key(1), "intact": True}
    assert more["fork"] == [sts.key(1)]
    until(lambda: ended(more["name"]))


def test_a_sealed_session_is_refused(monkeypatch):
    session = object.__new__(RefreshableSession)
    session._sealed = True
    with pytest.raises(BRSConfigurationError, match="sealed session cannot be exported"):
        session.export()


def test_the_variables_from_before_are_those_of_the_chain(monkeypatch, tmp_path):
    (tmp_path / "config").write_text("[profile p]\nregion = r\n")
    aside = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn", "AWS_PROFILE": "p", "AWS_ACCESS_KEY_ID": None}
    aside["AWS_CONFIG_FILE"] = str(tmp_path / "config")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of the export")
    monkeypatch.setenv(before.VARIABLE, before.Note("n", aside).text())
    session = botocore.session.Session()
    before.pin(session)
    assert session.get_config_variable("profile") == "p"
    chain = {provider.METHOD: provider for provider in session.get_component("credential_provider").providers}
    web = chain["assume-role-with-web-identity"]
    assert web._get_env_config("web_identity_token_file") == "/token"
    assert chain["env"].load() is None
    assert "/token" not in repr(before.environ())
    assert before.VARIABLE not in dict(before.environ())


def start_holding(sts, how="hold", **given):
    import subprocess
    import sys

    from support import PROGRAMS, environment

    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / "exporting.py"), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=environment(sts.url, **given),
    )  # fmt: skip


def server_of(name):
    """The process that serves, by the state of the endpoint."""
    folder = f"/dev/shm/shmcreds-export-{os.geteuid()}-{name}"
    try:
        pid = json.load(open(f"{folder}/server"))["pid"]
    except (OSError, ValueError):
        return None
    return pid if alive(pid) else None
