"""Sessions by name, without the API of a refreshable boto3 session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
from botocore.credentials import ReadOnlyCredentials

from . import lasting, native_module
from .credentials import SharedCredentials
from .exceptions import BRSConfigurationError
from .fetched import fetched_of
from .obtain import Obtainer
from .policy import Windows, windows_of
from .rejection import RejectionHook
from .set_name import Recipe, recipe_of
from .status import status_of
from .store import Fetched, Store

if TYPE_CHECKING:
    from .export import Export
    from .types import SessionStatus, TemporaryCredentials

__all__ = ["SharedSession", "boto3_session"]

_OPERATION = "GetCredentials"

SourceFunction = Callable[[], "TemporaryCredentials | dict[str, Any]"]


class SharedSession:
    """One set of credentials in shared memory, by the name of your choice. Made by :meth:`create`,
    :meth:`attach` or :meth:`attach_or_create`."""

    def __init__(self, obtainer: Obtainer, source: SourceFunction | None = None) -> None:
        self._obtainer = obtainer
        self._credentials = SharedCredentials(obtainer, "shmcreds")
        #: None in a session that reads alone.
        self._source = source

    @classmethod
    def create(
        cls,
        name: str,
        source: SourceFunction,
        *,
        advisory_timeout: float | None = None,
        mandatory_timeout: float | None = None,
    ) -> SharedSession:
        """Makes the session. ``source`` gives a set; the process that is elected calls it.

        Raises:
            BRSConfigurationError: this platform has no native module; or there is a session of that name.
        """
        from .native_store import create_native

        module = native_module.require("SharedSession.create")
        windows = windows_of(advisory_timeout, mandatory_timeout)
        return cls._with(create_native(module, _recipe(name), windows), source, windows)

    @classmethod
    def attach_or_create(
        cls,
        name: str,
        source: SourceFunction,
        *,
        advisory_timeout: float | None = None,
        mandatory_timeout: float | None = None,
    ) -> SharedSession:
        """Opens the session of that name, or makes it: whichever process starts first."""
        from .native_store import open_native

        module = native_module.require("SharedSession.attach_or_create")
        windows = windows_of(advisory_timeout, mandatory_timeout)
        return cls._with(open_native(module, _recipe(name), windows, _OPERATION), source, windows)

    @classmethod
    def _with(cls, store: Store, source: SourceFunction, windows: Windows) -> SharedSession:
        return cls(Obtainer(store, lambda: _fetched(source), windows, _OPERATION), source)

    @classmethod
    def attach(cls, name: str) -> SharedSession:
        """Opens a session that another process has made. This one reads, and is never elected.

        Raises:
            BRSConnectionError: there is none of that name.
        """
        from .native_store import attach_native

        store = attach_native(native_module.require("SharedSession.attach"), name)
        return cls(Obtainer(store, _no_source, windows_of(None, None), _OPERATION))

    @property
    def name(self) -> str:
        """The name."""
        return self._obtainer.store.name

    def credentials(self) -> ReadOnlyCredentials:
        """The newest set, fetched or waited for where there is no valid one."""
        return self._credentials.get_frozen_credentials()

    def refresh(self) -> ReadOnlyCredentials:
        """Waits for a set newer than the current one."""
        return self._obtainer.refresh().frozen

    def ensure_valid_for(self, seconds: float) -> ReadOnlyCredentials:
        """A set that is valid for so many seconds; see :meth:`RefreshableSession.ensure_valid_for`."""
        return self._obtainer.lasting(seconds).frozen

    def invalidate(self, access_key_id: str) -> bool:
        """Says that AWS rejected the set with this key. True for the first who says so of the newest set."""
        return self._obtainer.reject(access_key_id)

    def status(self) -> SessionStatus:
        """The state of the session. Fetches nothing."""
        return status_of(self._obtainer)

    def export(self) -> Export:
        """Lets every library of this process and of its children use the session; see
        :meth:`RefreshableSession.export`. A source that reads the variables reads those of the export."""
        from .export import export

        return export(self._obtainer, refreshes=self._source is not None)

    def unlink(self) -> None:
        """Removes the name. Processes that have the session keep it."""
        self._obtainer.store.unlink()

    def boto3_session(self, **kwargs: Any) -> boto3.Session:
        """A plain ``boto3.Session`` with these credentials. ``kwargs`` are arguments of ``boto3.Session``."""
        return boto3_session_of(self._obtainer, self._credentials, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._source is None:
            return type(self).attach, (self.name,)
        return _unpickle, (type(self), self.name, self._source, *self._obtainer.windows)

    def __repr__(self) -> str:
        return f"SharedSession(name={self.name!r})"


def _unpickle(
    cls: type[SharedSession], name: str, source: SourceFunction, advisory: float | None, mandatory: float | None
) -> SharedSession:
    return cls.attach_or_create(name, source, advisory_timeout=advisory, mandatory_timeout=mandatory)


def boto3_session(name: str, **kwargs: Any) -> boto3.Session:
    """A plain ``boto3.Session`` with the credentials of the session ``name``, which ``shmcreds serve`` or another
    process has made."""
    return SharedSession.attach(name).boto3_session(**kwargs)


def boto3_session_of(obtainer: Obtainer, credentials: SharedCredentials, **kwargs: Any) -> boto3.Session:
    """A plain ``boto3.Session`` with the sets that ``obtainer`` gives."""
    session = boto3.Session(**kwargs)
    session._session._credentials = credentials
    RejectionHook(obtainer).register(session._session)
    lasting.register(session._session)
    return session


def _recipe(name: str) -> Recipe:
    return Recipe(name, recipe_of({"shared": name}, {}).fingerprint)


def _fetched(source: SourceFunction) -> Fetched:
    return fetched_of(source(), "'source'")


def _no_source() -> Fetched:
    raise BRSConfigurationError("This process opened the session to read it, and has no source.")
