"""The program ``shmcreds``, which comes with the wheel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .exceptions import BRSConfigurationError


def find_bin() -> str:
    """The path of the program ``shmcreds``: the one of this installation, else the first on ``PATH``.

    Raises:
        BRSConfigurationError: there is none.
    """
    import sysconfig  # Takes a while, and few programs need it.

    name = "shmcreds" + (sysconfig.get_config_var("EXE") or "")
    folders = [sysconfig.get_path("scripts"), os.path.dirname(sys.executable)]
    for folder in folders:
        path = Path(folder) / name
        if os.access(path, os.X_OK):
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise BRSConfigurationError(
            "There is no program 'shmcreds': this wheel came without it. Install it by "
            "`cargo install shmcreds --features cli`."
        )
    return found
