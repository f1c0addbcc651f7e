"""One-time codes from a command."""

from __future__ import annotations

import re
import shlex
import subprocess
from typing import Any

from .exceptions import BRSConfigurationError

TIMEOUT = 30.0
_REFUSED = ("shell", "executable", "preexec_fn")
_OURS = ("stdout", "stderr")


def check_kwargs(kwargs: dict[str, Any]) -> None:
    """
    Raises:
        BRSConfigurationError: an argument of ``subprocess.run`` that is refused.
    """
    for name in _REFUSED + _OURS:
        if name in _OURS and name in kwargs or kwargs.get(name):
            raise BRSConfigurationError(
                f"{name!r} in 'mfa_token_provider_kwargs' is not supported: the command is started without a "
                f"shell, and its output is read here.",
                param="mfa_token_provider_kwargs",
            )


def code_of_command(command: list[str] | str, **kwargs: Any) -> str:
    """The last six digits in a row on the command's standard output.

    Raises:
        BRSConfigurationError: there is no such command, it fails, takes too long, or prints no code.
    """
    check_kwargs(kwargs)
    arguments = shlex.split(command) if isinstance(command, str) else list(command)
    if not arguments:
        raise _error("is empty", command)
    options = {"timeout": TIMEOUT, **{k: v for k, v in kwargs.items() if k not in _REFUSED + _OURS}}
    # These are decided here.
    for name in ("capture_output", "check", "text", "universal_newlines", "encoding", "errors"):
        options.pop(name, None)
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    elif isinstance(options["input"], bytes):
        options["input"] = options["input"].decode()
    try:
        done = subprocess.run(  # noqa: S603 - the user's own command
            arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **options
        )
    except FileNotFoundError as error:
        raise _error("is not found", command) from error
    except subprocess.TimeoutExpired as error:
        # Not `from error`: that one has what the command printed.
        raise _error(f"took longer than {options['timeout']:g} s", command) from None
    except OSError as error:
        raise _error(f"cannot be started: {error.strerror}", command) from error
    except TypeError as error:
        raise BRSConfigurationError(
            f"'mfa_token_provider_kwargs' has an argument that subprocess.run does not take: {error}.",
            param="mfa_token_provider_kwargs",
        ) from error
    if done.returncode != 0:
        raise _error(f"ended with status {done.returncode}", command, done.returncode)
    codes: list[str] = re.findall(r"(?<!\w)[0-9]{6}(?!\w)", done.stdout)
    if not codes:
        raise _error("printed no 6 digits in a row", command)
    return codes[-1]


def _error(problem: str, command: object, returncode: int | None = None) -> BRSConfigurationError:
    # Neither the output nor the arguments are shown: both may hold a code or a secret.
    program = command.split()[0] if isinstance(command, str) and command.split() else command
    shown = program[0] if isinstance(program, list) and program else program
    return BRSConfigurationError(
        f"The MFA command {problem}.",
        param="mfa_token_provider",
        value=shown,
        details=None if returncode is None else {"returncode": returncode},
    )
