"""The sessions: a ``boto3.Session`` whose credentials are shared and refreshed."""

from __future__ import annotations

import contextvars
import copy
import logging
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from botocore.session import Session as BotocoreSession

from . import clients, fork, lasting, native_module, policy
from .caller import EXPORTED, base_identity
from .clients import CachingSession
from .credentials import SharedCredentials, isoformat
from .dispatch import Dispatch, Registry
from .exceptions import BRSConfigurationError, BRSValidationError
from .fetched import fetched_of
from .obtain import Obtainer
from .open_store import open_store
from .rejection import RejectionHook
from .set_name import PRIVATE, Recipe, Unhashable, random_name, recipe_of
from .status import identity_by, status_of

if TYPE_CHECKING:
    from .export import Export
    from .native_source import NativeSource
    from .refresh_thread import RefreshThread
    from .store import Fetched, Look
    from .types import Identity, RefreshMethod, SessionStatus, TemporaryCredentials

__all__ = ["Registry", "RefreshableSession"]

logger = logging.getLogger("shmcreds")


class RefreshableSession(CachingSession, metaclass=Dispatch):
    """A ``boto3.Session`` with credentials that all processes of a host share, and that refresh by themselves.

    Args:
        method: ``"sts"``, ``"custom"`` or ``"iot"``. The arguments of the method's class follow.
        defer_refresh: True, the default, fetches when credentials are needed. False fetches the first set now, and
            each later one in time.
        advisory_timeout: Seconds before expiry from which one process refreshes while the others read on.
            By default it follows the set's lifetime.
        mandatory_timeout: Seconds before expiry from which readers wait a moment for the new set.
        name: The name of the shared set, instead of one made from the arguments.
        shared: False keeps the set to this process and its forked children. By default it is shared, unless the
            environment says ``SHMCREDS_SHARED=0``.
        engine: ``"python"`` fetches with botocore, ``"native"`` with the Rust library; ``"auto"`` chooses.
        sealed: Lets workers that have changed their user read the set, and keeps them from writing it.
        **session: Arguments of ``boto3.Session``.

    Raises:
        BRSValidationError: an argument breaks a rule.
        BRSConfigurationError: arguments do not fit together, or this platform cannot do what they ask for.
    """

    _is_factory: ClassVar[bool] = True
    _method: ClassVar[str | None] = None
    _operation: ClassVar[str] = "GetCredentials"
    _combined_of: ClassVar[type | None] = None
    refresh_method: RefreshMethod

    def __init_subclass__(cls, registry_key: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if registry_key is not None:
            cls._method = registry_key
            Registry.known[registry_key] = cls

    def __init__(
        self,
        *,
        defer_refresh: bool = True,
        advisory_timeout: float | None = None,
        mandatory_timeout: float | None = None,
        name: str | None = None,
        shared: bool | None = None,
        engine: str = "auto",
        sealed: bool = False,
        method: str | None = None,
        **session: Any,
    ) -> None:
        self._check(engine, sealed, method, defer_refresh)
        windows = policy.windows_of(advisory_timeout, mandatory_timeout)
        super().__init__(**session)
        self.defer_refresh = bool(defer_refresh)
        self.advisory_timeout = advisory_timeout
        self.mandatory_timeout = mandatory_timeout
        #: Signs as who assumes the role.
        self._base: BotocoreSession = copy.copy(self._session)
        self._has_keys = self._base._credentials is not None
        self._has_own_botocore_session = session.get("botocore_session") is not None
        self._sts: tuple[int, Any] | None = None
        if EXPORTED in os.environ:
            self._session._config = self._base._config = None
            self._pin()
        eager = not self.defer_refresh and not _resolved.get()
        # A sealed set has no name by which others could find it.
        recipe = self._recipe(name, False if sealed else shared)
        native = self._native_source(engine, sealed, eager)
        self._sealed = sealed
        self._recipe_used = recipe
        store = open_store(recipe, windows, self._operation, native)
        self._obtainer = Obtainer(store, self._fetch, windows, self._operation)
        self._credentials = SharedCredentials(self._obtainer, self.refresh_method)
        self._session._credentials = self._credentials
        RejectionHook(self._obtainer).register(self._session)
        lasting.register(self._session)
        fork.watch(self)
        self._refresh_thread: RefreshThread | None = None
        if eager:
            self._obtainer.obtain()
        if eager and not store.refreshes_itself:
            from .refresh_thread import RefreshThread

            self._refresh_thread = RefreshThread(self._obtainer)
            self._refresh_thread.start()

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = super().__new__(cls)
        # For pickle: a session is made again from its arguments.
        made._arguments = (args, copy.copy(kwargs))
        return made

    @classmethod
    def get_available_methods(cls) -> list[str]:
        """What ``method`` can be."""
        return sorted(Registry.items)

    def _check(self, engine: str, sealed: bool, method: str | None, defer_refresh: bool) -> None:
        if method not in (None, self._method):
            raise BRSConfigurationError(
                f"'method' is {method!r}, and this object is one of the method {self._method!r}. Give the method where "
                f"the class is called, or derive from the method's own class.",
                param="method",
            )
        if engine not in ("auto", "native", "python"):
            raise BRSValidationError(
                f"'engine' is {engine!r}; it must be 'auto', 'native' or 'python'.", param="engine"
            )
        if sealed:
            native_module.require("sealed=True")
        if sealed and engine == "python":
            raise BRSConfigurationError(
                "sealed=True and engine='python' do not fit together: only the refresher's own process writes a sealed "
                "set. Leave one of them out.",
                param="sealed",
            )
        if sealed and defer_refresh:
            raise BRSConfigurationError(
                "sealed=True needs defer_refresh=False: only the refresher's own process writes a sealed set.",
                param="sealed",
            )

    # What the classes of the methods say.

    def _inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What decides whose credentials come: what may be known, and what could be guessed from a digest.

        Raises:
            Unhashable: a part of it is no plain data. So it is where a class does not say.
        """
        raise Unhashable(type(self).__name__)

    def _get_credentials(self) -> TemporaryCredentials:
        """Fetches a set."""
        raise NotImplementedError

    def _native_inputs(self) -> tuple[str, dict[str, Any]]:
        """The kind of source that the Rust library has for this, and its inputs.

        Raises:
            Untranslatable: it has none.
        """
        from .native_source import Untranslatable

        raise Untranslatable(f"{type(self).__name__} has code of this program")

    # The store.

    def _native_source(self, engine: str, sealed: bool, eager: bool) -> NativeSource | None:
        """How the Rust library fetches the sets; None where botocore does."""
        if engine == "python" or engine == "auto" and self.defer_refresh:
            return None
        if EXPORTED in os.environ and not sealed and not self._names_its_caller():
            return None
        from . import native_source

        return native_source.choose(self, engine, sealed, eager)

    def _check_fetches_itself(self, by: type) -> None:
        """
        Raises:
            Untranslatable: this object fetches in another way than the class ``by``.
        """
        from .native_source import Untranslatable

        if self._has_own_botocore_session:
            raise Untranslatable("'botocore_session' is given")
        if self._fetched_by() is not by:
            raise Untranslatable(f"{self._fetched_by().__name__} has a '_get_credentials' of its own")

    def _recipe(self, name: str | None, shared: bool | None) -> Recipe:
        """The name of the set and its fingerprint. A private set has a random name."""
        name = _resolved.get() or name
        if shared is None:
            shared = os.environ.get("SHMCREDS_SHARED") != "0"
        try:
            recipe = recipe_of(*self._all_inputs())
        except Unhashable as reason:
            logger.debug("the set is private: %s is no plain data", reason)
            # A forked child or a pickle brings the name along, and the code that fetches.
            return Recipe(name or random_name(), PRIVATE)
        if name is not None or not shared:
            return recipe._replace(name=name or random_name())
        return recipe

    def _all_inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self._has_own_botocore_session:
            raise Unhashable("botocore_session")
        defined_by = self._fetched_by()
        if defined_by is not Registry.known.get(self._method or ""):
            raise Unhashable(f"{defined_by.__name__}._get_credentials")
        public, guessable = self._inputs()
        return {**public, "method": self._method, "base": base_identity(self._base)}, guessable

    def _fetched_by(self) -> type:
        """The class that fetches: a subclass of the method's class can have code of its own."""
        return next(c for c in type(self).__mro__ if "_get_credentials" in vars(c))

    def _fetch(self) -> Fetched:
        """Fetches a set with :meth:`_get_credentials`, and checks it."""
        return fetched_of(self._get_credentials())

    # Reading.

    @property
    def credentials(self) -> TemporaryCredentials:
        """The current set: keys, token, and their expiry, all of one set."""
        return self._as_dict(self._credentials.snapshot())

    @staticmethod
    def _as_dict(look: Look) -> TemporaryCredentials:
        return {
            "access_key": look.frozen.access_key,
            "secret_key": look.frozen.secret_key,
            "token": look.frozen.token,
            "expiry_time": isoformat(look.expires),
        }

    def refreshable_credentials(self) -> TemporaryCredentials:
        """The same as :attr:`credentials`."""
        return self.credentials

    def get_credentials(self) -> SharedCredentials:
        """The object from which botocore reads."""
        return self._credentials

    def get_identity(self) -> Identity:
        """Whose the shared credentials are, as STS says. For the role, that is the assumed role."""
        return self._identify(self._session)

    def whoami(self) -> Identity:
        """The same as :meth:`get_identity`."""
        return self.get_identity()

    def source_identity(self) -> Identity:
        """Who fetches the credentials: for the role, who assumes it."""
        return self._identify(self._base)

    def _identify(self, session: BotocoreSession) -> Identity:
        return identity_by(session.create_client(**self._identity_client()))

    def _identity_client(self) -> dict[str, Any]:
        """The arguments of the client that asks for an identity."""
        return {"service_name": "sts", "region_name": self._base.get_config_variable("region")}

    def status(self) -> SessionStatus:
        """The state of the session. Fetches nothing."""
        return status_of(self._obtainer)

    def refresh(self) -> TemporaryCredentials:
        """Waits for a set newer than the current one, and gives that.

        Raises:
            Exception: what the source raised. The current set stays.
        """
        self._obtainer.refresh()
        return self.credentials

    def ensure_valid_for(self, seconds: float) -> TemporaryCredentials:
        """A set that is valid for so many seconds, for a program that keeps its keys. Where the current set is not, one
        process fetches a new one for all. At most eight such calls in the life of a set: a set that is younger than an
        eighth of its life is given as it is.

        Raises:
            BRSConfigurationError: the sets of this source do not live so long. The code is ``TooShort``.
            Exception: what the source raised. The current set stays.
        """
        return self._as_dict(self._obtainer.lasting(seconds))

    def export(self) -> Export:
        """Lets every library of this process and of its children use the session, by the variables that their own
        credentials chains read: ``with session.export(): …``, or without ``with`` for the life of the process.

        All processes of the host that export the session have one endpoint, a process of the program ``shmcreds``. It
        ends with the last of them. When it is killed, another one starts with the same address. Variables that take
        precedence (keys, profiles, roles, files) are set aside, and put back at the end. Who fetches stays the same.

        Raises:
            BRSConfigurationError: there is no shared memory, no program ``shmcreds``, the session is sealed, or
                another session is exported.
            Exception: what the source raised, where there is no set yet.
        """
        from .export import export

        if self._sealed:
            raise BRSConfigurationError(
                "A sealed session cannot be exported: the endpoint finds a session by its name. Make one without "
                "sealed=True.",
                param="sealed",
            )
        return export(self._obtainer)

    def _pin(self) -> None:
        """Who fetches is told by the variables as they were before an export."""
        from . import before

        # The copy that signs as who assumes the role has the same parts.
        before.pin(self._session)
        store = self._obtainer.store if hasattr(self, "_obtainer") else None
        if store is None or store.engine != "native" or self._sealed or self._names_its_caller():
            return
        # The library would read the variables of the export. The program that refreshes has those from before.
        self._obtainer.store = open_store(self._recipe_used, self._obtainer.windows, self._operation)

    def _names_its_caller(self) -> bool:
        """Whether no variable and no file decides who fetches."""
        return False

    def unlink(self) -> None:
        """Removes the name, so that later processes start with a set of their own. Those that have the set keep it."""
        self._obtainer.store.unlink()

    # Other processes.

    def before_fork(self) -> None:
        # Each child would load it for itself, into memory of its own.
        clients.load_cache()

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self) -> None:
        # Clients of the parent share their sockets with it, and other threads may have had the lock.
        self._forget_clients()
        self._sts = None
        base = self._base._credentials
        if hasattr(base, "_refresh_lock"):
            base._refresh_lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        args, kwargs = self._arguments
        cls = self._combined_of or type(self)
        method = self._method if self._combined_of is not None else None
        if self._has_own_botocore_session:
            raise TypeError("A session with 'botocore_session' cannot be pickled: make it in each process.")
        if self._sealed:
            raise TypeError("A sealed session cannot be pickled: no process finds it by a name. Fork the workers.")
        return _unpickle, (cls, method, args, kwargs, self._obtainer.store.name)

    def __repr__(self) -> str:
        obtainer = getattr(self, "_obtainer", None)
        name = None if obtainer is None else obtainer.store.name
        return f"{type(self).__name__}(region_name={self._session.get_config_variable('region')!r}, name={name!r})"


#: The name of the session that is made from a pickle. Such a session leaves refreshing in time to the first one.
_resolved: contextvars.ContextVar[str | None] = contextvars.ContextVar("shmcreds_name", default=None)


def _unpickle(
    cls: Any, method: str | None, args: tuple[Any, ...], kwargs: dict[str, Any], name: str
) -> Any:
    token = _resolved.set(name)
    try:
        made = cls(*args, **kwargs) if method is None else cls(*args, method=method, **kwargs)
    finally:
        _resolved.reset(token)
    if EXPORTED in os.environ:
        # A spawned process inherited the variables. The endpoint must not end before it.
        from .export import keep

        keep(made._obtainer)
    return made
