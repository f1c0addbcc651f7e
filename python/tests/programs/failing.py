"""Forks WORKERS children, which tell the error that they get; with `eager`, the error of the constructor."""

import os
import sys

import botocore.exceptions
from reading import session, tell



def read():
    if sys.argv[2:]:
        session(defer_refresh=False)
    made.get_credentials().access_key


made = session()
children = []
for _ in range(int(sys.argv[1])):
    pid = os.fork()
    if pid == 0:
        try:
            read()
        except botocore.exceptions.ClientError as error:
            answer = error.response["ResponseMetadata"]
            about = [error.response["Error"]["Code"], error.operation_name, answer["HTTPStatusCode"], answer["RequestId"]]
            tell([*about, isinstance(error, botocore.exceptions.ClientError)])
        os._exit(0)
    children.append(pid)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
