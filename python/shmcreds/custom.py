"""``method="custom"``: a function of the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .exceptions import BRSValidationError
from .fetched import fetched_of
from .session import RefreshableSession
from .set_name import Unhashable

if TYPE_CHECKING:
    from .store import Fetched
    from .types import Identity, TemporaryCredentials

__all__ = ["CustomRefreshableSession"]


class CustomRefreshableSession(RefreshableSession, registry_key="custom"):
    """A session with the credentials that a function gives.

    Args:
        custom_credentials_method: Gives a :class:`TemporaryCredentials`. It is called by one process, for all.
        custom_credentials_method_args: Keyword arguments of the function.
        **kwargs: See :class:`RefreshableSession`.
    """

    refresh_method = "custom"

    def __init__(
        self,
        custom_credentials_method: Callable[..., TemporaryCredentials | dict[str, Any]],
        custom_credentials_method_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if not callable(custom_credentials_method):
            raise BRSValidationError(
                f"'custom_credentials_method' is of type {type(custom_credentials_method).__name__}; it must be a "
                f"function.",
                param="custom_credentials_method",
            )
        if not isinstance(custom_credentials_method_args, (dict, type(None))):
            raise BRSValidationError(
                f"'custom_credentials_method_args' is of type {type(custom_credentials_method_args).__name__}; it "
                f"must be a dict.",
                param="custom_credentials_method_args",
            )
        self._custom_get_credentials = custom_credentials_method
        self._custom_credentials_method_args = custom_credentials_method_args or {}
        super().__init__(**kwargs)

    def _inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        # Two functions can have one name and give different sets.
        raise Unhashable("custom_credentials_method")

    def _get_credentials(self) -> TemporaryCredentials:
        given: Any = self._custom_get_credentials(**self._custom_credentials_method_args)
        return given  # type: ignore[no-any-return]

    def _fetch(self) -> Fetched:
        return fetched_of(self._get_credentials(), "'custom_credentials_method'")

    def source_identity(self) -> Identity:
        """The name of the function."""
        function = self._custom_get_credentials
        name = getattr(function, "__name__", type(function).__name__)
        return {"method": "custom", "source": repr(name)}
