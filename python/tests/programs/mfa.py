"""Forks WORKERS children, which read until GENERATION; a code comes from KIND, and each leaves a line in CALLS."""

import os
import sys

from reading import ROLE, read_until, session, tell

import shmcreds

workers, generation, kind, calls = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


def code():
    with open(calls, "a") as file:
        file.write("asked\n")
    return "123456"


role = {"RoleArn": ROLE, "SerialNumber": "arn:aws:iam::123456789012:mfa/me"}
made = shmcreds.RefreshableSession(
    assume_role_kwargs=role,
    sts_client_kwargs={"endpoint_url": os.environ["TEST_STS"], "region_name": "us-east-1"},
    engine=os.environ.get("TEST_ENGINE", "auto"),
    mfa_token_provider=code if kind == "callable" else ["sh", "-c", f"echo asked >> '{calls}'; echo 123456"],
)
children = []
for _ in range(workers):
    pid = os.fork()
    if pid == 0:
        tell(read_until(made, generation))
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
