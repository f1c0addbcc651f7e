"""Ends while daemon threads go in and out of the native module without a pause. Tells whether they did."""

import threading

from reading import session, tell

from shmcreds import BRSConnectionError

made, rounds, enough = session(), 0, threading.Event()


def ask():
    global rounds
    while True:
        try:
            made.get_credentials().access_key
        except BRSConnectionError:
            # Nobody listens at the address of STS, and the back-off forbids another call.
            rounds += 1
        if rounds > 1000:
            enough.set()


for _ in range(8):
    threading.Thread(target=ask, daemon=True).start()
tell(enough.wait(60))
