"""A client that the parent has used; the child gets another one, with sockets of its own."""

import os

from reading import session, tell

made = session()
client = made.client("sts", endpoint_url=os.environ["TEST_STS"], region_name="us-east-1")
client.get_caller_identity()
assert made.client("sts", endpoint_url=os.environ["TEST_STS"], region_name="us-east-1") is client


def sockets():
    names = []
    for entry in os.listdir("/proc/self/fd"):
        try:
            name = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:
            continue
        if name.startswith("socket:"):
            names.append(name)
    return names


inherited = set(sockets())
pid = os.fork()
if pid == 0:
    again = made.client("sts", endpoint_url=os.environ["TEST_STS"], region_name="us-east-1")
    again.get_caller_identity()
    own = set(sockets()) - inherited
    tell([again is not client, len(inherited) > 0, len(own) > 0])
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
