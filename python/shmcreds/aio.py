"""Sessions for aiobotocore. Install the extra ``aio``."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.credentials import ReadOnlyCredentials

from . import lasting
from .exceptions import BRSConfigurationError
from .obtain import Obtainer
from .rejection import RejectionHook, rejected_key
from .session import RefreshableSession
from .shared import SharedSession

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["AioCredentials", "session"]


class AioCredentials:
    """Credentials for an ``AioSession``. A fresh set is read at once; a fetch runs on a thread."""

    def __init__(self, obtainer: Obtainer, method: str) -> None:
        self._obtainer = obtainer
        self._fresh = obtainer.fresh
        self.method = method

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        frozen = self._fresh()
        if frozen is None:
            look = await asyncio.to_thread(self._obtainer.obtain)
            frozen = look.frozen
        return frozen

    async def get_account_id(self) -> str | None:
        return getattr(await self.get_frozen_credentials(), "account_id", None)

    async def get_access_key(self) -> str:
        key: str = (await self.get_frozen_credentials()).access_key
        return key

    async def get_secret_key(self) -> str:
        key: str = (await self.get_frozen_credentials()).secret_key
        return key

    async def get_token(self) -> str | None:
        token: str | None = (await self.get_frozen_credentials()).token
        return token

    def get_deferred_property(self, property_name: str) -> Callable[[], Any]:
        """Of the set that is there; it does not wait."""

        def known() -> Any:
            look = self._obtainer.store.look()
            return None if look is None else getattr(look.frozen, property_name, None)

        return known

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of the session {self._obtainer.store.name}>"


class _AioRejectionHook(RejectionHook):
    async def needs_retry(  # type: ignore[override]
        self, response: Any, attempts: int, request_dict: dict[str, Any], **_: Any
    ) -> int | None:
        key = rejected_key(response, attempts, request_dict)
        if key is None:
            return None
        return 0 if await asyncio.to_thread(self.is_replaced, key) else None


def session(shared: RefreshableSession | SharedSession) -> AioSession:
    """An ``aiobotocore`` session with the credentials, and the Region, of ``shared``.

    Raises:
        BRSConfigurationError: aiobotocore is not installed.
    """
    try:
        from aiobotocore.session import AioSession
    except ImportError as error:
        raise BRSConfigurationError(
            "aiobotocore is not installed. Install it by `pip install shmcreds[aio]`."
        ) from error
    made = AioSession()
    if isinstance(shared, RefreshableSession):
        made.set_config_variable("region", shared.region_name)
    made._credentials = AioCredentials(shared._obtainer, shared._credentials.method)
    _AioRejectionHook(shared._obtainer).register(made)
    lasting.register(made, signing=_lasting)
    return made


def _lasting(sign: Callable[..., Any], place: int | None, default: int) -> Callable[..., Any]:
    @functools.wraps(sign)
    async def signed(client: Any, *args: Any, **kwargs: Any) -> Any:
        credentials = client._request_signer._credentials
        if isinstance(credentials, AioCredentials):
            seconds = lasting.seconds_of(args, kwargs, place, default)
            if not lasting.is_settled(credentials._obtainer, seconds):
                await asyncio.to_thread(lasting.see_to, credentials._obtainer, seconds)
        return await sign(client, *args, **kwargs)

    return signed
