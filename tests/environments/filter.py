#!/usr/bin/env python3
"""filter.py ERRNO CALLS CMD...: runs CMD where some system calls fail with ERRNO, a name such as EPERM.

CALLS is a list of names, "later:NAME" for NAME and all later ones, or "except:FILE" for all that are not in FILE.
The numbers come from the headers of the C compiler, or from a file with its definitions that SYSTEM_CALLS names. clone3 fails with ENOSYS at most: glibc starts no thread otherwise.
"""

import ctypes
import errno
import os
import re
import struct
import subprocess
import sys

LOAD, JUMP_IF_EQUAL, JUMP_IF_GREATER_OR_EQUAL, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, FAIL = 0x7FFF0000, 0x00050000
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, FILTER = 38, 22, 2


def numbers():
    """The number of each system call of this machine."""
    if "SYSTEM_CALLS" in os.environ:
        headers = open(os.environ["SYSTEM_CALLS"]).read()
    else:
        text = "#include <sys/syscall.h>\n"
        gcc = subprocess.run(["gcc", "-E", "-dM", "-"], input=text, capture_output=True, text=True, check=True)
        headers = gcc.stdout
    return {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", headers)}


def program(calls, failure):
    known = numbers()
    fail = FAIL | failure
    steps = [(LOAD, 0, 0, 0)]
    steps += [(JUMP_IF_EQUAL, 0, 1, known["clone3"]), (RETURN, 0, 0, FAIL | errno.ENOSYS)]
    kind, _, rest = calls.partition(":")
    if kind == "except":
        allowed = [name for name in open(rest).read().split() if name in known]
        for name in allowed:
            steps += [(JUMP_IF_EQUAL, 0, 1, known[name]), (RETURN, 0, 0, ALLOW)]
        return steps + [(RETURN, 0, 0, fail)]
    if kind == "later":
        return steps + [
            (JUMP_IF_GREATER_OR_EQUAL, 0, 1, known[rest]),
            (RETURN, 0, 0, fail),
            (RETURN, 0, 0, ALLOW),
        ]
    for name in calls.split(","):
        steps += [(JUMP_IF_EQUAL, 0, 1, known[name]), (RETURN, 0, 0, fail)]
    return steps + [(RETURN, 0, 0, ALLOW)]


def main():
    name, calls, *command = sys.argv[1:]
    steps = program(calls, getattr(errno, name))
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, FILTER, described, 0, 0)]:
        if libc.prctl(*arguments) != 0:
            sys.exit(f"filter.py: prctl: {os.strerror(ctypes.get_errno())}")
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
