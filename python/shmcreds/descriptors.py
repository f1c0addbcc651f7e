"""File descriptors that other code of the process may close, and whose numbers may be used again."""

from __future__ import annotations

import os


class Owned:
    """A descriptor, with what it was opened for."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._identity = _identity(number)

    def is_open(self) -> bool:
        """Whether the number still stands for it."""
        found = _identity(self.number)
        return found is not None and found == self._identity

    def close(self) -> None:
        """Closes it, and nothing else that has its number by now."""
        if self.is_open():
            os.close(self.number)


def _identity(number: int) -> tuple[int, int, str] | None:
    try:
        found = os.fstat(number)
    except OSError:
        return None
    try:
        # Some kernels give all that is no file one inode.
        kind = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        kind = ""
    # A file that was removed has another name there.
    return found.st_dev, found.st_ino, kind if kind.startswith("anon_inode") else ""
