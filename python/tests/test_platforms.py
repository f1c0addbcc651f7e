"""Platforms without the native module, and a look at them by SHMCREDS_NATIVE=0."""

from __future__ import annotations

import logging

import pytest
from support import run

import shmcreds
from shmcreds import BRSConfigurationError, sharing


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_a_session_works(platform):
    (told,) = run("other_platform.py", platform)
    assert (told["sharing"], told["generation"], told["buckets"]) == ("process", 2, [])
    assert told["reason"] == f"this installation has no native module for {platform}"
    assert len(told["errors"]) == 2
    assert all(platform in error and "shared memory" in error for error in told["errors"])


def test_it_can_be_turned_off(make, monkeypatch, caplog):
    monkeypatch.setenv("SHMCREDS_NATIVE", "0")
    monkeypatch.setattr(sharing, "_told", False)
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
