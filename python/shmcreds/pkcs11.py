"""Sets for a device whose private key is in a PKCS#11 module, which signs and does not give it away.

The AWS CRT has the TLS for that. It runs in a process of its own for each fetch: neither its threads nor the modules of
vendors survive a fork, and servers fork.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .exceptions import BRSConfigurationError, BRSConnectionError, BRSValidationError

if TYPE_CHECKING:
    from .types import PKCS11

_PROGRAM = Path(__file__).with_name("pkcs11_fetch.py")
#: How long the interpreter and the module may take to start.
_START = 15.0
_KINDS = {
    "pkcs11_lib": str,
    "user_pin": str,
    "slot_id": int,
    "token_label": str,
    "private_key_label": str,
}
_PIN_REFUSED = "CKR_PIN_"


def checked(given: Any) -> PKCS11:
    """A checked copy, with the full path of the module.

    Raises:
        BRSValidationError: a field breaks a rule.
        BRSConfigurationError: the path of the module is missing.
    """
    if not isinstance(given, dict):
        raise BRSValidationError(
            f"'pkcs11' is of type {type(given).__name__}; it must be a dict.", param="pkcs11"
        )
    if given.get("pkcs11_lib") is None:
        raise BRSConfigurationError(
            "'pkcs11' has no 'pkcs11_lib': give the path of the PKCS#11 module.", param="pkcs11_lib"
        )
    for name, value in given.items():
        kind = _KINDS.get(name)
        if kind is None:
            raise BRSValidationError(
                f"'pkcs11' has {name!r}; it can have {', '.join(_KINDS)}.", param=name
            )
        # Values are not shown: one of them is the PIN.
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BRSValidationError(
                f"{name!r} in 'pkcs11' is of type {type(value).__name__}; it must be of type {kind.__name__}.", param=name
            )
    path = Path(given["pkcs11_lib"]).expanduser().resolve()
    if not path.is_file():
        raise BRSValidationError(
            "'pkcs11_lib' in 'pkcs11' is no file: it must be the path of the PKCS#11 module.",
            param="pkcs11_lib",
            value=given["pkcs11_lib"],
        )
    return cast("PKCS11", {name: given.get(name) for name in _KINDS} | {"pkcs11_lib": str(path)})


class HardwareKey:
    """The private key in the module."""

    def __init__(self, module: PKCS11) -> None:
        self.module = module
        # Shared with forked children: a token locks itself after a few wrong PINs.
        self._pin_refused = mmap.mmap(-1, 1)

    def ask(self, host: str, path: str, headers: dict[str, str], **tls: Any) -> tuple[int, bytes]:
        """The status and the body of the answer to a GET.

        Raises:
            BRSConfigurationError: the module does not sign.
            BRSConnectionError: the server cannot be asked.
        """
        if self._pin_refused[0]:
            raise _pin_refused()
        given = {"path": sys.path, "host": host, "target": path, "headers": headers, "module": self.module, **tls}
        told = _run(given, limit=_START + 2 * tls["timeout"])
        problem = told.get("error")
        if problem is None:
            return told["status"], told["body"].encode()
        if _PIN_REFUSED in problem:
            self._pin_refused[0] = 1
            raise _pin_refused()
        if told["by"] == "module":
            raise BRSConfigurationError(f"The PKCS#11 module cannot be used: {problem}.", param="pkcs11")
        raise BRSConnectionError(f"AWS IoT at {host} cannot be asked: {problem}.")


def _pin_refused() -> BRSConfigurationError:
    return BRSConfigurationError(
        "The PKCS#11 module refuses 'user_pin'. It is not asked again, since a token locks itself after a few wrong PINs. "
        "Make a session with the right one.",
        param="user_pin",
    )


def _run(given: dict[str, Any], limit: float) -> dict[str, Any]:
    """What the program tells. Arguments and environment can be seen by others: all goes over its standard input."""
    command = [_interpreter(), "-I", str(_PROGRAM)]
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter and a file of this package
            command, input=json.dumps(given), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=limit
        )
        told: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        # Not `from error`: that one has what the program printed.
        raise BRSConnectionError(f"The PKCS#11 module gave no answer within {limit:g} s.") from None
    except ValueError:
        raise BRSConnectionError(
            f"The process that asks the PKCS#11 module ended with status {done.returncode} and no answer."
        ) from None
    except OSError as error:
        raise BRSConfigurationError(f"{command[0]} cannot be started: {error.strerror}.") from error
    return told


def _interpreter() -> str:
    """The path of this Python. A program that embeds it, such as uWSGI, gives its own path as `sys.executable`."""
    candidates = [sys.executable, os.path.join(sys.exec_prefix, "bin", "python3")]
    named = [path for path in candidates if path and os.path.basename(path).lower().startswith("python")]
    return named[0] if named else "python3"
