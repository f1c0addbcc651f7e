"""Presigned URLs and tokens of databases: signed with a set that is valid for as long as they are."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any

from . import clock
from .credentials import SharedCredentials
from .exceptions import BRSConfigurationError, BRSWarning
from .interrupts import is_interrupt
from .obtain import Obtainer
from .policy import YOUNGEST_REPLACED
from .store import FRESH, Look

logger = logging.getLogger("shmcreds")

#: The methods of clients: at which place `ExpiresIn` stands after the client, and its default.
_METHODS = {
    "generate_presigned_url": (2, 3600),
    "generate_presigned_post": (4, 3600),
    "generate_db_auth_token": (None, 900),
    "generate_db_connect_auth_token": (2, 900),
    "generate_db_connect_admin_auth_token": (2, 900),
}


Sign = Callable[..., Any]


def register(session: Any, signing: Callable[[Sign, int | None, int], Sign] | None = None) -> None:
    """Makes the clients of a botocore session see to it. ``signing`` makes a method of a client such a one."""
    wrap = functools.partial(_wrap_methods, _lasting if signing is None else signing)
    emitter = session.get_component("event_emitter")
    # Last: the handlers before it add the methods.
    emitter.register_last("creating-client-class", wrap, unique_id="shmcreds-lasting")


def _wrap_methods(signing: Callable[..., Sign], class_attributes: dict[str, Any], **_: Any) -> None:
    for name, (place, default) in _METHODS.items():
        if name in class_attributes:
            class_attributes[name] = signing(class_attributes[name], place, default)


def seconds_of(args: tuple[Any, ...], kwargs: dict[str, Any], place: int | None, default: int) -> Any:
    """For how many seconds a call of such a method signs."""
    positional = args[place] if place is not None and len(args) > place else None
    seconds = kwargs.get("ExpiresIn", positional)
    return default if seconds is None else seconds


def _lasting(sign: Callable[..., Any], place: int | None, default: int) -> Callable[..., Any]:
    @functools.wraps(sign)
    def signed(client: Any, *args: Any, **kwargs: Any) -> Any:
        credentials = client._request_signer._credentials
        # A client can have other credentials than its session.
        if isinstance(credentials, SharedCredentials):
            see_to(credentials._obtainer, seconds_of(args, kwargs, place, default))
        return sign(client, *args, **kwargs)

    return signed


def is_settled(obtainer: Obtainer, seconds: Any) -> bool:
    """Whether the current set is valid for so long, or no better one can be had yet."""
    look = obtainer.store.look()
    if look is None or look.state != FRESH:
        return False
    generation, until = obtainer.best
    return bool(look.expires - time.time() >= seconds or generation == look.generation and clock.now() < until)


def see_to(obtainer: Obtainer, seconds: Any) -> None:
    """Gets a set that is valid for so long, where that is possible, and warns once where it is not."""
    if is_settled(obtainer, seconds):
        return
    try:
        look = obtainer.lasting(seconds)
        if look.expires - time.time() < seconds:
            _settle(obtainer, look)
    except BRSConfigurationError as error:
        if error.code == "TooShort":
            _tell(obtainer, seconds)
    except Exception as error:
        if is_interrupt(error):
            raise
        # Signing raises it, unless there is a valid set.
        logger.warning("session %s: no set for %s s: %s", obtainer.store.name, seconds, type(error).__name__)


def _settle(obtainer: Obtainer, look: Look) -> None:
    """Notes that this set is as good as it gets until it is an eighth of its life old: the next URLs need no look."""
    life = obtainer.store.lifetime()
    if life is not None:
        left = look.expires - time.time()
        obtainer.best = (look.generation, clock.now() + left - life * (1 - YOUNGEST_REPLACED))


def _tell(obtainer: Obtainer, seconds: float) -> None:
    look, life = obtainer.store.look(), obtainer.store.lifetime()
    if obtainer.short_told or look is None or life is None:
        return
    obtainer.short_told = True
    BRSWarning.warn(
        f"A URL or token that should be valid for {seconds:g} s is valid for {look.expires - time.time():.0f} s: it ends "
        f"with the set that signs it, and the sets of this source live for {life:.0f} s. Raise 'DurationSeconds' and the "
        f"role's MaxSessionDuration (one hour at most where a role assumes the role), or ask for less.",
        stacklevel=5,
    )
