"""A reader that shares no code with the library: what docs/PROTOCOL.md says is all it knows. It finds in a session
what the program `shmcreds` finds, asks for a new set, and sees that.

usage: other_reader.py SHMCREDS
"""

import ctypes
import datetime
import fcntl
import json
import mmap
import os
import platform
import secrets
import stat
import struct
import subprocess
import sys
import time
import zlib

PAGE = 4096
# The first entry, the bytes from one to the next, and the fields of the first.
ENTRY, STRIDE = PAGE, 57344
PUBLISHED, ELECTION, COUNTERS, SETS = ENTRY, ENTRY + 256, ENTRY + 512, ENTRY + 3840
F_OFD_SETLK = 37
# 98 on all the newer architectures.
SYS_FUTEX = {"x86_64": 202}.get(platform.machine(), 98)
FUTEX_WAKE = 1
# type, whence, start, length, pid
FLOCK = "hh4xqqi4x"
LIMIT = 30


class Session:
    def __init__(self, name):
        base = f"/dev/shm/shmcreds-{os.geteuid()}-{name}"
        self.locks = checked(f"{base}@lock", os.O_RDWR)
        fcntl.fcntl(self.locks, F_OFD_SETLK, struct.pack(FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 1, 0))
        assert os.stat(f"{base}@lock").st_ino == os.fstat(self.locks).st_ino
        segment = checked(base, os.O_RDONLY)
        self.bytes = mmap.mmap(segment, os.fstat(segment).st_size, prot=mmap.PROT_READ)
        self.requests = mmap.mmap(self.locks, PAGE)

    def word(self, offset):
        return struct.unpack_from("<Q", self.bytes, offset)[0]

    def header(self):
        assert self.bytes[:8] == b"SHMCREDS"
        assert [self.word(offset) for offset in range(8, 80, 8)] == [
            2, len(self.bytes), PAGE, 1, STRIDE, 3, 17024, 3, 1024,
        ]
        assert self.word(96) == os.stat("/proc/self/ns/time").st_ino
        description = self.bytes[520:520 + self.word(512)]
        assert self.word(144) == zlib.crc32(self.bytes[8:144] + description)
        return description.decode()

    def newest(self):
        """Generation and record of the newest set. The order of its loads is that of a strongly ordered machine;
        on another the checksum would find what was torn."""
        for _ in range(1000):
            version = self.word(PUBLISHED)
            generation, slot = version >> 9, SETS + (version & 0xFF) * 17024
            if self.word(slot) == generation:
                record = self.bytes[slot + 16:slot + 16 + 8 * self.word(slot + 8)]
                if self.word(slot) == generation:
                    return generation, decoded(record)
        raise AssertionError("no whole record")

    def refresher(self):
        """The pid of the elected process, and how long its lease still lasts, in seconds."""
        ticket = self.word(ELECTION)
        byte = (1 << 48) + ticket % (1 << 48)
        lock = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
        kind, _, _, _, holder = struct.unpack(FLOCK, fcntl.fcntl(self.locks, fcntl.F_GETLK, lock))
        assert kind == fcntl.F_WRLCK and holder == self.word(ELECTION + 16)
        number, start, namespace = thread_of(self.word(ELECTION + 24))
        mark = struct.pack("<4Q", number, namespace, start, ticket)
        assert self.word(ELECTION + 24) >> 32 == zlib.crc32(mark), "the mark of the elected thread"
        assert self.word(ELECTION + 48) == 0, "no Region of a list has failed"
        assert os.path.exists(f"/proc/{holder}/task/{number}")
        assert self.word(256) == 0
        return holder, (ticket >> 21) / 1e3 - boot() / 1e9

    def want_successor_of(self, generation):
        notified = ctypes.c_uint32.from_buffer(self.requests, 0)
        wanted = ctypes.c_uint64.from_buffer(self.requests, 8)
        wanted.value = max(wanted.value, generation)
        notified.value += 1
        ctypes.CDLL(None).syscall(SYS_FUTEX, ctypes.byref(notified), FUTEX_WAKE, 1 << 30, None, None, 0)


def thread_of(mark):
    """The number of a marked thread that lives, its start time, and the pid namespace of this process."""
    number, namespace = mark & 0x3FFFFF, os.stat("/proc/self/ns/pid").st_ino
    assert mark >> 22 & 0x3FF == namespace & 0x3FF
    with open(f"/proc/{number}/stat") as stat:
        return number, int(stat.read().rsplit(")", 1)[1].split()[19]), namespace


def checked(path, flags):
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    status = os.fstat(fd)
    assert stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    return fd


def decoded(record):
    assert len(record) % 8 == 0
    checksum, fetched, advisory, mandatory, expiry, unix = struct.unpack_from("<6Q", record)
    assert checksum == zlib.crc32(record[8:])
    texts, at = [], 56
    for length in struct.unpack_from("<4H", record, 48):
        texts.append(record[at:at + length].decode())
        at += length
    assert at <= len(record) < at + 8 and not any(record[at:])
    return {"times": (fetched, advisory, mandatory, expiry), "unix": unix, "texts": texts}


def boot():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def told(program, *arguments):
    return json.loads(subprocess.run([program, *arguments], check=True, stdout=subprocess.PIPE).stdout)


def compare(session, program, name):
    """The newest set as the file has it and as the program tells it."""
    generation, record = session.newest()
    said, status = told(program, "credentials", name), told(program, "status", name, "--json")
    assert record["texts"] == [
        said["AccessKeyId"], said["SecretAccessKey"], said["SessionToken"], said.get("AccountId", ""),
    ]
    expiration = datetime.datetime.fromisoformat(said["Expiration"].replace("Z", "+00:00"))
    assert abs(record["unix"] / 1e9 - expiration.timestamp()) < 1
    fetched, advisory, mandatory, expiry = record["times"]
    assert fetched <= boot() < advisory <= mandatory < expiry
    assert abs(expiry - boot() - (record["unix"] - time.time_ns())) < 2e9, "two clocks, one expiry"
    assert (generation, session.word(COUNTERS)) == (status["generation"], status["source_calls"]), status
    return generation


def read(program, name):
    session = Session(name)
    source = session.header()
    assert source == told(program, "status", name, "--json")["source"] and source.startswith("process"), source
    generation = compare(session, program, name)
    holder, lease = session.refresher()
    assert os.path.exists(f"/proc/{holder}") and 0 < lease < 3600, (holder, lease)
    session.want_successor_of(generation)
    end = time.monotonic() + LIMIT
    while session.word(PUBLISHED) >> 9 == generation:
        assert time.monotonic() < end, "no process answered the request"
        time.sleep(0.01)
    assert compare(session, program, name) == generation + 1
    print(f"read {len(session.bytes)} bytes by the book: what `{os.path.basename(program)}` says, twice")


def fetch():
    """Plays the source: a set of its own each time."""
    expiration = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    print(json.dumps({
        "Version": 1,
        "AccessKeyId": f"ASIA{secrets.token_hex(8).upper()}",
        "SecretAccessKey": secrets.token_urlsafe(30),
        "SessionToken": secrets.token_urlsafe(900),
        "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }))


def main(program, role=None):
    if role == "fetch":
        return fetch()
    if role == "read":
        return read(program, os.environ["SHMCREDS_SESSION"])
    this = [sys.executable, os.path.abspath(__file__), os.path.abspath(program)]
    arguments = [f"--process-arg={one}" for one in [*this[1:], "fetch"]]
    source = ["--process", this[0], *arguments]
    command = [program, "exec", "--name", f"t-reader-{os.getpid()}", *source, "--", *this, "read"]
    sys.exit(subprocess.run(command).returncode)


main(*sys.argv[1:])
