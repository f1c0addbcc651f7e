"""A request that AWS refuses because of its credentials: the set is replaced once, and the request is repeated."""

from __future__ import annotations

import logging
import re
from typing import Any

from .interrupts import is_interrupt
from .obtain import Obtainer

logger = logging.getLogger("shmcreds")

_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken"})
_KEY_OF = re.compile(r"Credential=([^/]+)/")
#: The access key with which a request was signed, in its context.
_SIGNED_WITH = "shmcreds_signed_with"
_ID = "shmcreds-rejection"


class RejectionHook:
    """Handlers of a botocore session's events."""

    def __init__(self, obtainer: Obtainer) -> None:
        self._obtainer = obtainer

    def register(self, session: Any) -> None:
        session.register("request-created", self.note_key, unique_id=f"{_ID}-key")
        session.register("needs-retry", self.needs_retry, unique_id=f"{_ID}-retry")

    def note_key(self, request: Any, **_: Any) -> None:
        """Before a request is sent. Signing, a handler of the client, may come before or after this one."""
        request.context.pop(_SIGNED_WITH, None)
        request.context[_SIGNED_WITH] = request

    def needs_retry(
        self, response: Any, attempts: int, request_dict: dict[str, Any], **_: Any
    ) -> int | None:
        """0, for "again at once", where another set can be had; None leaves it to botocore."""
        key = rejected_key(response, attempts, request_dict)
        return 0 if key is not None and self.is_replaced(key) else None

    def is_replaced(self, key: str) -> bool:
        """Whether there is another set than the one with this rejected key, or a new one could be fetched."""
        self._obtainer.reject(key)
        try:
            newest = self._obtainer.obtain().frozen.access_key
        except Exception as error:
            if is_interrupt(error):
                raise
            # The answer of AWS is what the caller gets.
            logger.info("no other set could be had: %s", type(error).__name__)
            return False
        return bool(newest != key)


def rejected_key(response: Any, attempts: int, request_dict: dict[str, Any]) -> str | None:
    """The access key that AWS refused, if this is the answer to the first attempt, and says so."""
    if response is None or attempts > 1:
        return None
    if response[1].get("Error", {}).get("Code") not in _CODES:
        return None
    return _key_of(request_dict.get("context", {}).get(_SIGNED_WITH))


def _key_of(request: Any) -> str | None:
    if request is None:
        return None
    header = request.headers.get("Authorization") or ""
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    found = _KEY_OF.search(text)
    return None if found is None else found.group(1)
