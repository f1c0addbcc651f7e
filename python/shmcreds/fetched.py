"""The set that a source gave, checked."""

from __future__ import annotations

import datetime
import time
from typing import Any

from .exceptions import BRSCredentialError
from .store import Fetched

_REQUIRED = ("access_key", "secret_key", "token", "expiry_time")


def fetched_of(given: Any, what: str = "The source") -> Fetched:
    """The set that a method gave, checked.

    Raises:
        BRSCredentialError: it is no complete set.
    """
    if not isinstance(given, dict):
        raise BRSCredentialError(f"{what} gave a {type(given).__name__}; it must give a dict.")
    missing = [key for key in _REQUIRED if key not in given]
    if missing:
        raise BRSCredentialError(
            f"{what} gave a dict without {', '.join(missing)}.", details={"missing": missing}
        )
    for key in _REQUIRED[:3]:
        if not isinstance(given[key], str) or not given[key]:
            raise BRSCredentialError(
                f"{what} gave {key!r} as {_kind(given[key])}; it must be a text that is not empty.", param=key
            )
    expires = _expires(given["expiry_time"])
    if expires <= time.time():
        raise BRSCredentialError(f"{what} gave a set that has expired.", param="expiry_time")
    account_id = given.get("account_id")
    return Fetched(given["access_key"], given["secret_key"], given["token"], expires, account_id)


def _expires(given: object) -> float:
    if isinstance(given, datetime.datetime):
        moment = given
    elif isinstance(given, str):
        try:
            moment = _parsed(given)
        except (ValueError, OverflowError) as error:
            raise BRSCredentialError(
                "'expiry_time' is no ISO 8601 time.", param="expiry_time", value=given
            ) from error
    else:
        raise BRSCredentialError(
            f"'expiry_time' is {_kind(given)}; it must be an ISO 8601 text or a datetime.", param="expiry_time"
        )
    if moment.tzinfo is None:
        raise BRSCredentialError(
            "'expiry_time' has no time zone: add one, for example +00:00.", param="expiry_time", value=str(given)
        )
    return moment.timestamp()


def _parsed(text: str) -> datetime.datetime:
    from dateutil.parser import parse

    parsed: datetime.datetime = parse(text)
    return parsed


def _kind(value: object) -> str:
    return "an empty text" if value == "" else f"a {type(value).__name__}"
