"""64 forked workers of botocore that all need their first credentials at once: each assumes the role for
itself, or asks the endpoint of `shmcreds exec`. Prints one JSON object.

usage: cold.py
"""

import json
import os
import time

import botocore.session

WORKERS = 64


def worker(began, report):
    session = botocore.session.get_session()
    key = session.get_credentials().get_frozen_credentials().access_key
    os.write(report, f"{time.monotonic() - began} {key}\n".encode())
    os._exit(0)


def main():
    read, report = os.pipe()
    began = time.monotonic()
    for _ in range(WORKERS):
        if os.fork() == 0:
            worker(began, report)
    os.close(report)
    answers = [line.split() for line in os.fdopen(read)]
    assert len(answers) == WORKERS, answers
    last = max(float(seconds) for seconds, _ in answers)
    print(json.dumps({"last_seconds": round(last, 3), "keys": len({key for _, key in answers})}))


main()
