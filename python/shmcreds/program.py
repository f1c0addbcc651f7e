"""The program ``shmcreds``, which comes with the wheel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from .exceptions import BRSConfigurationError


def own_program() -> str | None:
    """The path of the program of this installation, which is of the same version; None where the wheel has none."""
    import sysconfig  # Takes a while, and few programs need it.

    name = "shmcreds" + (sysconfig.get_config_var("EXE") or "")
    for folder in (sysconfig.get_path("scripts"), os.path.dirname(sys.executable)):
        path = Path(folder) / name
        if os.access(path, os.X_OK):
            return str(path)
    return None


def find_bin() -> str:
    """The path of the program ``shmcreds``: the one of this installation, else the first on ``PATH``.

    Raises:
        BRSConfigurationError: there is none.
    """
    found = own_program() or shutil.which("shmcreds")
    if found is None:
        raise BRSConfigurationError(
            "There is no program 'shmcreds': this wheel came without it. Install it by "
            "`cargo install shmcreds --features cli`."
        )
    return found
