"""The arguments of AssumeRole and of the STS client, checked when they are set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from .exceptions import BRSValidationError, BRSWarning

if TYPE_CHECKING:
    from botocore.config import Config
    from typing_extensions import Self

__all__ = ["AssumeRoleConfig", "STSClientConfig"]

_SHORTEST_ARN = 20


class _Config(dict[str, Any]):
    """A dict of known keys, which are attributes, too. A key that is not set reads as None."""

    _names: ClassVar[tuple[str, ...]] = ()
    #: Shown as ``***``.
    _secret: ClassVar[frozenset[str]] = frozenset()

    def _set(self, given: dict[str, Any]) -> None:
        for name in self._names:
            if given.get(name) is not None:
                self[name] = given[name]

    def _checked(self, name: str, value: Any) -> Any:
        """The value to keep.

        Raises:
            BRSValidationError: the value breaks a rule.
        """
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self._names:
            raise BRSValidationError(
                f"{name!r} is no argument of {type(self).__name__}; it has {', '.join(self._names)}."
            )
        super().__setitem__(name, self._checked(name, value))

    def __getattr__(self, name: str) -> Any:
        if name not in self._names:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)

    def update(self, *args: Any, **kwargs: Any) -> None:
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc]
        self.update(other)
        return self

    def copy(self) -> Self:
        made = type(self).__new__(type(self))
        dict.update(made, self)
        return made

    def __repr__(self) -> str:
        shown = {name: "***" if name in self._secret else value for name, value in self.items()}
        return repr(shown)


class AssumeRoleConfig(_Config):
    """The inputs of ``AssumeRole``."""

    _names = (
        "RoleArn",
        "RoleSessionName",
        "PolicyArns",
        "Policy",
        "DurationSeconds",
        "ExternalId",
        "SerialNumber",
        "TokenCode",
        "Tags",
        "TransitiveTagKeys",
        "SourceIdentity",
        "ProvidedContexts",
    )
    _secret = frozenset({"ExternalId", "TokenCode"})

    def __init__(
        self,
        *,
        RoleArn: str,
        RoleSessionName: str | None = None,
        PolicyArns: list[Any] | None = None,
        Policy: str | None = None,
        DurationSeconds: int | None = None,
        ExternalId: str | None = None,
        SerialNumber: str | None = None,
        TokenCode: str | None = None,
        Tags: list[Any] | None = None,
        TransitiveTagKeys: list[str] | None = None,
        SourceIdentity: str | None = None,
        ProvidedContexts: list[Any] | None = None,
    ) -> None:
        super().__init__()
        given = locals()
        self["RoleArn"] = RoleArn
        self._set(given)

    def _checked(self, name: str, value: Any) -> Any:
        if name == "RoleArn":
            if not isinstance(value, str):
                raise BRSValidationError(
                    f"'RoleArn' is of type {type(value).__name__}; it must be a string.", param=name
                )
            if len(value) < _SHORTEST_ARN:
                raise BRSValidationError(
                    f"'RoleArn' has {len(value)} characters; it must have at least {_SHORTEST_ARN}.",
                    param=name,
                )
        return checked_code(value) if name == "TokenCode" else value


class STSClientConfig(_Config):
    """The arguments of the STS client that assumes the role."""

    _names = (
        "service_name",
        "region_name",
        "api_version",
        "use_ssl",
        "verify",
        "endpoint_url",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "config",
        "aws_account_id",
    )
    _secret = frozenset({"aws_secret_access_key", "aws_session_token"})

    def __init__(
        self,
        *,
        service_name: str | None = None,
        region_name: str | None = None,
        api_version: str | None = None,
        use_ssl: bool | None = None,
        verify: bool | str | None = None,
        endpoint_url: str | None = None,
        aws_access_key_id: str | None = None,
        aws_secret_access_key: str | None = None,
        aws_session_token: str | None = None,
        config: Config | None = None,
        aws_account_id: str | None = None,
    ) -> None:
        super().__init__()
        given = locals()
        self["service_name"] = "sts" if service_name is None else service_name
        self._set({**given, "service_name": None})

    def _checked(self, name: str, value: Any) -> Any:
        if name != "service_name":
            return value
        if not isinstance(value, str):
            raise BRSValidationError(
                f"'service_name' is of type {type(value).__name__}; it must be a string.", param=name
            )
        if value != "sts":
            BRSWarning.warn(
                f"'service_name' is {value!r}; the client that assumes the role is one of 'sts', which is taken.",
                stacklevel=4,
            )
        return "sts"


def checked_code(value: object) -> str:
    """A one-time code.

    Raises:
        BRSValidationError: it is no string of six ASCII digits.
    """
    if isinstance(value, str) and re.fullmatch(r"[0-9]{6}", value):
        return value
    # It may be a secret: it is not shown.
    raise BRSValidationError("'TokenCode' is not a string of 6 digits.", param="TokenCode")
