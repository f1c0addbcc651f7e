"""``python -m shmcreds COMMAND…``: the program ``shmcreds``, for example ``python -m shmcreds doctor``."""

from __future__ import annotations

import os
import sys

from .exceptions import BRSConfigurationError
from .program import find_bin


def main() -> None:
    try:
        program = find_bin()
    except BRSConfigurationError as error:
        sys.exit(str(error))
    # The program takes the place of this process: its signals and its exit code are those of the program.
    os.execv(program, ["shmcreds", *sys.argv[1:]])


if __name__ == "__main__":
    main()
