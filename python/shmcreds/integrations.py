"""Other libraries with the set of a session. Nothing is imported before it is used.

Each function takes a session: a :class:`RefreshableSession` or a :class:`SharedSession`. What it gives asks the session
whenever the library asks, and tells when the set expires.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .obtain import Obtainer

if TYPE_CHECKING:
    import boto3

__all__ = ["boto3_session", "icechunk", "kombu_transport", "obstore", "polars", "requests_auth", "s3fs", "sqlalchemy_rds"]


def obstore(session: Any) -> Callable[[], dict[str, Any]]:
    """For ``obstore.store.S3Store(…, credential_provider=…)``."""
    obtainer = _obtainer_of(session)

    def provider() -> dict[str, Any]:
        look = obtainer.obtain()
        return {
            "access_key_id": look.frozen.access_key,
            "secret_access_key": look.frozen.secret_key,
            "token": look.frozen.token,
            "expires_at": _moment(look.expires),
        }

    return provider


def polars(session: Any) -> Callable[[], tuple[dict[str, str | None], int]]:
    """For ``credential_provider=`` of ``polars.scan_parquet`` and such."""
    obtainer = _obtainer_of(session)

    def provider() -> tuple[dict[str, str | None], int]:
        look = obtainer.obtain()
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

        look = _obtainer_of(self._session).obtain()
        frozen = look.frozen
        return S3StaticCredentials(frozen.access_key, frozen.secret_key, frozen.token, _moment(look.expires))


def requests_auth(session: Any, region: str, service: str) -> Any:
    """For ``auth=`` of ``requests``, of opensearch-py and others that take one. Needs ``requests-aws4auth``."""
    from requests_aws4auth import AWS4Auth

    class Auth(AWS4Auth):  # type: ignore[misc]
        def __call__(self, request: Any) -> Any:
            # It keeps the set in its attributes while it signs. With one object, threads would mix two sets.
            return AWS4Auth.__call__(copy.copy(self), request)

    return Auth(region=region, service=service, refreshable_credentials=_credentials_of(session))


def s3fs(session: Any, **kwargs: Any) -> Any:
    """An ``s3fs.S3FileSystem`` with ``kwargs``. Needs ``s3fs`` and the extra ``aio``."""
    from s3fs import S3FileSystem

    from . import aio

    return S3FileSystem(session=aio.session(session), **kwargs)


def boto3_session(session: Any, **kwargs: Any) -> boto3.Session:
    """A plain ``boto3.Session`` with the credentials, and the Region, of ``session``. It keeps no clients: for libraries
    that make a client or resource for each thread."""
    from .shared import boto3_session_of

    kwargs.setdefault("region_name", _region_of(session))
    return boto3_session_of(session._obtainer, session._credentials, **kwargs)


def sqlalchemy_rds(session: Any, engine: Any, *, region: str | None = None) -> Any:
    """Lets an engine of SQLAlchemy, or an ``AsyncEngine``, log in at RDS and Aurora with a token of the session instead of
    a password. Each new connection gets a token of its own. The database must be asked over TLS. Gives the engine back."""
    from sqlalchemy import event

    sync_engine = getattr(engine, "sync_engine", engine)

    def add_token(_dialect: Any, _record: Any, _args: Any, arguments: dict[str, Any]) -> None:
        url = sync_engine.url
        # Made here: a client of the parent process shares its sockets.
        client = boto3_session(session).client("rds", region_name=region)
        arguments["password"] = client.generate_db_auth_token(
            DBHostname=url.host, Port=url.port or _PORTS.get(url.get_backend_name(), 5432), DBUsername=url.username
        )

    event.listen(sync_engine, "do_connect", add_token)
    return engine


_PORTS = {"mysql": 3306, "mariadb": 3306, "postgresql": 5432}


def kombu_transport(session: Any) -> Any:
    """A transport of kombu for SQS: ``kombu.Connection("sqs://", transport=…)``. For Celery, assign it to a name of a
    module, and give that name: ``broker_transport = "project.aws:Transport"``. Needs ``kombu[sqs]``."""
    from botocore.config import Config
    from kombu.transport import SQS

    class Channel(SQS.Channel):
        def new_sqs_client(self, region: str | None = None, *_: Any, **__: Any) -> Any:
            arguments = {"endpoint_url": self.endpoint_url} if self.endpoint_url is not None else {}
            client_config = self.transport_options.get("client-config") or {}
            config = Config(**client_config) if client_config else None
            made = boto3_session(session, region_name=region or _region_of(session))
            return made.client("sqs", use_ssl=self.is_secure, config=config, **arguments)

    class Transport(SQS.Transport):
        pass

    Transport.Channel = Channel
    return Transport


def _region_of(session: Any) -> str | None:
    """The Region of the session."""
    region: str | None = getattr(session, "region_name", None)
    return region


def _credentials_of(session: Any) -> Any:
    return session._credentials


def _obtainer_of(session: Any) -> Obtainer:
    obtainer: Obtainer = session._obtainer
    return obtainer


def _moment(expires: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
