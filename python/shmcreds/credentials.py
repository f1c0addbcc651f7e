"""The credentials object that botocore reads."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable
from typing import Any

from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials

from . import clock
from .exceptions import BRSConfigurationError
from .obtain import Obtainer
from .store import EXPIRED, Look

__all__ = ["SharedCredentials"]


class SharedCredentials(RefreshableCredentials):  # type: ignore[misc]
    """Credentials that read the newest set of a session at each use.

    A ``RefreshableCredentials`` for those who test for that class; all that it does is done by the session.
    """

    def __init__(self, obtainer: Obtainer, method: str) -> None:
        self._obtainer = obtainer
        self._fresh = obtainer.fresh
        self.method = method
        # Others of botocore's attributes are properties below.
        self._refresh_lock = threading.Lock()
        self._time_fetcher = _now
        self._staged_expiry_time = None

    @classmethod
    def create_from_metadata(cls, *args: Any, **kwargs: Any) -> RefreshableCredentials:
        return RefreshableCredentials.create_from_metadata(*args, **kwargs)

    def get_frozen_credentials(self) -> ReadOnlyCredentials:
        frozen = self._fresh()
        return frozen if frozen is not None else self._obtainer.obtain().frozen

    def get_deferred_property(self, property_name: str) -> Callable[[], Any]:
        return lambda: getattr(self.get_frozen_credentials(), property_name, None)

    def snapshot(self) -> Look:
        """The set to use now, with its expiry: all of one set."""
        return self._obtainer.obtain()

    @property
    def access_key(self) -> str:
        key: str = self.get_frozen_credentials().access_key
        return key

    @access_key.setter
    def access_key(self, _: object) -> None:
        raise _shared("access_key")

    @property
    def secret_key(self) -> str:
        key: str = self.get_frozen_credentials().secret_key
        return key

    @secret_key.setter
    def secret_key(self, _: object) -> None:
        raise _shared("secret_key")

    @property
    def token(self) -> str | None:
        token: str | None = self.get_frozen_credentials().token
        return token

    @token.setter
    def token(self, _: object) -> None:
        raise _shared("token")

    @property
    def account_id(self) -> str | None:
        return getattr(self.get_frozen_credentials(), "account_id", None)

    @account_id.setter
    def account_id(self, _: object) -> None:
        raise _shared("account_id")

    def refresh_needed(self, refresh_in: float | None = None) -> bool:
        look = self._obtainer.store.look()
        if look is None:
            return True
        if refresh_in is None:
            return look.refresh_in <= 0
        return look.state == EXPIRED or self._seconds_remaining() < refresh_in

    def _is_expired(self) -> bool:
        look = self._obtainer.store.look()
        return look is None or look.state == EXPIRED

    def _refresh(self) -> None:
        if self._fresh() is None:
            self._obtainer.obtain()

    def _protected_refresh(self, is_mandatory: bool) -> None:
        self._obtainer.refresh()

    def _refresh_using(self) -> dict[str, str | None]:
        look = self._obtainer.refresh()
        return {
            "access_key": look.frozen.access_key,
            "secret_key": look.frozen.secret_key,
            "token": look.frozen.token,
            "expiry_time": isoformat(look.expires),
            "account_id": getattr(look.frozen, "account_id", None),
        }

    def _seconds_remaining(self) -> float:
        look = self._obtainer.store.look()
        return 0.0 if look is None else look.expires - _now().timestamp()

    @property
    def _expiry_time(self) -> datetime.datetime | None:
        look = self._obtainer.store.look()
        return None if look is None else _datetime(look.expires)

    @property
    def _frozen_credentials(self) -> ReadOnlyCredentials | None:
        look = self._obtainer.store.look()
        return None if look is None else look.frozen

    # Programs that set botocore's private windows are heard: the next set is published with them.

    @property
    def _advisory_refresh_timeout(self) -> float | None:
        return self._obtainer.windows.advisory

    @_advisory_refresh_timeout.setter
    def _advisory_refresh_timeout(self, seconds: float) -> None:
        self._obtainer.windows = self._obtainer.windows._replace(advisory=float(seconds))

    @property
    def _mandatory_refresh_timeout(self) -> float | None:
        return self._obtainer.windows.mandatory

    @_mandatory_refresh_timeout.setter
    def _mandatory_refresh_timeout(self, seconds: float) -> None:
        self._obtainer.windows = self._obtainer.windows._replace(mandatory=float(seconds))

    def __copy__(self) -> SharedCredentials:
        return self

    def __deepcopy__(self, _: object) -> SharedCredentials:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("The credentials object of a session cannot be pickled. Pickle the session.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the session {self._obtainer.store.name}>"


def isoformat(expires: float) -> str:
    """A point in time of the Unix epoch, in UTC, to the millisecond."""
    return _datetime(round(expires, 3)).isoformat()


def _datetime(expires: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _shared(name: str) -> BRSConfigurationError:
    return BRSConfigurationError(
        f"{name!r} cannot be set: the set is shared. Make a session that fetches the credentials you want.",
        param=name,
    )
