"""Threads that read while the set is replaced."""

from __future__ import annotations

import threading
import time

import shmcreds


def test_no_mixed_set_and_no_deadlock():
    count = 0

    def source():
        nonlocal count
        count += 1
        expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        return dict(access_key=f"A{count}", secret_key=f"S{count}", token=f"T{count}", expiry_time=expires)

    session = shmcreds.RefreshableSession(method="custom", custom_credentials_method=source)
    credentials = session.get_credentials()
    stop, mixed, reads = threading.Event(), [], []

    def read():
        number = 0
        while not stop.is_set():
            frozen = credentials.get_frozen_credentials()
            number += 1
            if number % 100 == 0:
                time.sleep(0.001)
            if not frozen.access_key[1:] == frozen.secret_key[1:] == frozen.token[1:]:
                mixed.append(frozen)
        reads.append(number)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(100):
        session.refresh()
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert mixed == []
    assert count == session.status()["generation"] >= 100
    assert len(reads) == 8 and min(reads) > 0
