"""Platforms without the native module, and a look at them by SHMCREDS_NATIVE=0."""

from __future__ import annotations

import json
import logging

import pytest
from support import run, start

import shmcreds
from shmcreds import BRSConfigurationError, native_module, open_store


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_session_works(platform):
    (told,) = run("other_platform.py", platform)
    assert (told["sharing"], told["generation"], told["buckets"]) == ("process", 2, [])
    assert told["reason"] == f"this installation has no native module for {platform}"
    assert len(told["errors"]) == 2
    assert all(platform in error and "shared memory" in error for error in told["errors"])


def test_it_can_be_turned_off(make, monkeypatch, caplog):
    monkeypatch.setenv("SHMCREDS_NATIVE", "0")
    monkeypatch.setattr(open_store, "_told", False)
    with caplog.at_level(logging.INFO, logger="shmcreds"):
        sessions = [make(), make()]
    assert [session.status()["sharing"] for session in sessions] == ["process"] * 2
    told = [record.message for record in caplog.records]
    assert told == ["each process keeps its own set: SHMCREDS_NATIVE=0 turns the native module off"]
    with pytest.raises(BRSConfigurationError, match="SHMCREDS_NATIVE=0"):
        shmcreds.SharedSession.attach("web")
    with pytest.raises(BRSConfigurationError, match="SHMCREDS_NATIVE=0"):
        make(sealed=True)
    with pytest.raises(BRSConfigurationError, match="engine='native' needs shared memory.*SHMCREDS_NATIVE=0"):
        make(engine="native")
    assert make(defer_refresh=False).status()["engine"] == "python"


@pytest.mark.host
@pytest.mark.parametrize("order", [["main", "sub", "main", "sub", "main"], ["sub", "sub", "main", "sub", "main"]])
def test_one_interpreter_of_a_process_shares_its_sets(order):
    # CPython 3.10 to 3.12 say on standard error that `decimal` was loaded twice.
    process = start("interpreters.py", ",".join(order))
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, err
    told = [json.loads(line) for line in out.splitlines()]
    assert [(who, key) for who, key, *_ in told] == [(who, "KEY") for who in order]
    # The first one that loads the native module; a new one of the same kind is another one.
    first = ["main", "main", "main"] if order[0] == "main" else ["sub"]
    shared = [one for one in told if one[2] == "host"]
    assert [one[0] for one in shared] == first
    assert {(reason, error) for *_, reason, error in shared} == {("", "BRSConnectionError")}
    others = [one for one in told if one[2] == "process"]
    assert len(shared) + len(others) == len(order)
    for *_, reason, error in others:
        assert reason.startswith("the native module cannot be loaded: another interpreter of this process has loaded")
        assert error == "BRSConfigurationError"
