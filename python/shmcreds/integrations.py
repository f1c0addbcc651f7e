"""Other libraries with the set of a session. Nothing is imported before it is used.

Each function takes a session: a :class:`RefreshableSession` or a :class:`SharedSession`. What it gives asks the session
whenever the library asks, and tells when the set expires.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

from .engine import Engine

__all__ = ["icechunk", "obstore", "polars", "requests_auth", "s3fs"]


def obstore(session: Any) -> Callable[[], dict[str, Any]]:
    """For ``obstore.store.S3Store(…, credential_provider=…)``."""
    engine = _engine_of(session)

    def provider() -> dict[str, Any]:
        look = engine.obtain()
        return {
            "access_key_id": look.frozen.access_key,
            "secret_access_key": look.frozen.secret_key,
            "token": look.frozen.token,
            "expires_at": _moment(look.expires),
        }

    return provider


def polars(session: Any) -> Callable[[], tuple[dict[str, str | None], int]]:
    """For ``credential_provider=`` of ``polars.scan_parquet`` and such."""
    engine = _engine_of(session)

    def provider() -> tuple[dict[str, str | None], int]:
        look = engine.obtain()
        keys = {
            "aws_access_key_id": look.frozen.access_key,
            "aws_secret_access_key": look.frozen.secret_key,
            "aws_session_token": look.frozen.token,
        }
        # Whole seconds, and never after the true end.
        return keys, int(look.expires)

    return provider


def icechunk(session: Any) -> Callable[[], Any]:
    """For ``icechunk.s3_storage(…, get_credentials=…)``. Icechunk pickles it, so the session must be one that can be."""
    return _Icechunk(session)


class _Icechunk:
    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self) -> Any:
        from icechunk import S3StaticCredentials

        look = _engine_of(self._session).obtain()
        frozen = look.frozen
        return S3StaticCredentials(frozen.access_key, frozen.secret_key, frozen.token, _moment(look.expires))


def requests_auth(session: Any, region: str, service: str) -> Any:
    """For ``auth=`` of ``requests``, of opensearch-py and others that take one. Needs ``requests-aws4auth``."""
    from requests_aws4auth import AWS4Auth

    return AWS4Auth(region=region, service=service, refreshable_credentials=_credentials_of(session))


def s3fs(session: Any, **kwargs: Any) -> Any:
    """An ``s3fs.S3FileSystem`` with ``kwargs``. Needs ``s3fs`` and the extra ``aio``."""
    from s3fs import S3FileSystem

    from . import aio

    return S3FileSystem(session=aio.session(session), **kwargs)


def _credentials_of(session: Any) -> Any:
    return session._credentials


def _engine_of(session: Any) -> Engine:
    engine: Engine = session._engine
    return engine


def _moment(expires: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
