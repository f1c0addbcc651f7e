"""Two processes that create one session at the same moment, ROUNDS times. Tells in how many rounds none, one or
both succeeded."""

import collections
import mmap
import os
import struct
import sys
import time

from reading import tell

from shmcreds import BRSConfigurationError, SharedSession

rounds = int(sys.argv[1])
#: How many have come to the round, and how many have tried: for each process one counter of each.
page = mmap.mmap(-1, 4096)


def source():
    return dict(access_key="K", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")


def meet(own, number):
    """Both leave together: without a sleep, so that they are in create() at the same time."""
    struct.pack_into("q", page, 8 * own, number)
    end = time.monotonic() + 20
    while struct.unpack_from("q", page, 8 * (1 - own))[0] < number:
        assert time.monotonic() < end, "the other process did not come"


def race(own):
    """A byte for each round: 1 where create() succeeded, 0 where it said that there is one, 9 for another error."""
    outcomes = []
    for number in range(rounds):
        meet(own, 2 * number + 1)
        try:
            made = SharedSession.create(f"python-race-{creator}-{number}", source)
            outcomes.append(1)
        except BRSConfigurationError as error:
            made = None
            outcomes.append(0 if error.code == "InUse" else 9)
        meet(own, 2 * number + 2)
        del made
    return outcomes


creator = os.getpid()
reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, bytes(race(1)))
    os._exit(0)
mine = race(0)
assert os.waitpid(child, 0)[1] == 0
tell(collections.Counter(sum(pair) for pair in zip(mine, os.read(reader, rounds), strict=True)))
