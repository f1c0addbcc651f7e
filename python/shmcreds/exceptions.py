"""The errors and the warning of this package."""

from __future__ import annotations

import warnings
from typing import Any

__all__ = [
    "BRSConfigurationError",
    "BRSConnectionError",
    "BRSCredentialError",
    "BRSError",
    "BRSRequestError",
    "BRSValidationError",
    "BRSWarning",
]

_DETAILS = ("code", "status_code", "param", "value", "details")


class BRSError(Exception):
    """The base of all errors of this package.

    ``code`` and ``status_code`` are what a service answered, ``param`` and ``value`` name the argument
    that is wrong. ``None`` stands for "not known".
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | int | None = None,
        status_code: int | None = None,
        details: dict[str, Any] | None = None,
        param: str | None = None,
        value: Any | None = None,
    ) -> None:
        self.message = message or ""
        self.code = code
        self.status_code = status_code
        self.details = details
        self.param = param
        self.value = value
        super().__init__(self.message)

    def _known(self) -> list[str]:
        given = ((name, getattr(self, name)) for name in _DETAILS)
        return [f"{name}={value!r}" for name, value in given if value is not None]

    def __str__(self) -> str:
        known = self._known()
        return f"{self.message} ({', '.join(known)})" if known else self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([repr(self.message), *self._known()])})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword arguments are lost by the default, which knows only `args`.
        return type(self), (self.message,), {name: getattr(self, name) for name in _DETAILS}


class BRSValidationError(BRSError):
    """An argument breaks a rule."""


class BRSConfigurationError(BRSError):
    """Arguments do not fit together, or this platform cannot do what they ask for."""


class BRSCredentialError(BRSError):
    """A source gave something that is no valid set of credentials."""


class BRSConnectionError(BRSError):
    """No valid set came in time, or a service cannot be reached."""


class BRSRequestError(BRSError):
    """A service refused a request."""


class BRSWarning(UserWarning):
    """Something was ignored or corrected."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or ""
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r})"

    @classmethod
    def warn(cls, message: str, *, stacklevel: int = 1) -> None:
        """Issues the warning as one of the caller's line."""
        warnings.warn(cls(message), stacklevel=stacklevel + 1)
