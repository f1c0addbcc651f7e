"""Django, SQLAlchemy and kombu with the set of a session."""

from __future__ import annotations

import sys
import types

import pytest
from moto import mock_aws

from shmcreds import RefreshableSession, integrations


@pytest.fixture
def session():
    """One set after the other: KEY1, KEY2."""
    number = 0

    def source():
        nonlocal number
        number += 1
        return dict(access_key=f"KEY{number}", secret_key="s", token="t", expiry_time="2099-01-01T00:00:00Z")

    return RefreshableSession(method="custom", custom_credentials_method=source, region_name="eu-west-1")


def keys_of(client):
    """The key of each request, as it is signed."""
    keys = []
    emitter = client.meta.events
    emitter.register("before-sign", lambda **_: keys.append(client._request_signer._credentials.access_key))
    return keys


@pytest.fixture
def django(monkeypatch):
    pytest.importorskip("storages")
    import django
    from django.conf import settings

    if not settings.configured:
        settings.configure(AWS_STORAGE_BUCKET_NAME="files")
        django.setup()
    return settings


def test_a_storage_of_django_signs_with_the_newest_set(django, session, monkeypatch):
    from django.core.files.base import ContentFile
    from django.core.files.storage import storages

    module = types.ModuleType("project_aws")
    module.session = session
    monkeypatch.setitem(sys.modules, "project_aws", module)
    options = {"session": "project_aws.session", "region_name": "eu-west-1"}
    backend = {"BACKEND": "shmcreds.django.S3Storage", "OPTIONS": options}
    with mock_aws():
        storage = type(storages)({"default": backend})["default"]
        client = storage.connection.meta.client
        client.create_bucket(Bucket="files", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        keys = keys_of(client)
        storage.save("x", ContentFile(b"body"))
        session.refresh()
        assert storage.open("x").read() == b"body"
        assert set(keys) == {"KEY1", "KEY2"} and keys[-1] == "KEY2"
        assert "KEY2" in storage.url("x")
        # A resource is not shared between threads.
        assert type(storages)({"default": backend})["default"].connection is not storage.connection


def test_a_storage_of_django_by_a_setting(django, session, monkeypatch):
    from shmcreds.django import S3Storage

    monkeypatch.setattr(django, "AWS_S3_SESSION", session, raising=False)
    assert S3Storage()._create_session().get_credentials().access_key == "KEY1"


def test_a_storage_of_django_without_a_session_says_so(django):
    from django.core.exceptions import ImproperlyConfigured

    from shmcreds.django import S3Storage

    with pytest.raises(ImproperlyConfigured, match="AWS_S3_SESSION"):
        S3Storage()._create_session()


class Stop(Exception):
    pass


def test_sqlalchemy_logs_in_with_a_token_of_the_newest_set(session):
    sqlalchemy = pytest.importorskip("sqlalchemy")
    dbapi = types.SimpleNamespace(paramstyle="pyformat", Error=ArithmeticError, __version__="1.0")
    engine = sqlalchemy.create_engine("mysql+pymysql://app@db.example/shop", module=dbapi)
    assert integrations.sqlalchemy_rds(session, engine) is engine
    seen = []

    @sqlalchemy.event.listens_for(engine, "do_connect")
    def stop(_dialect, _record, _args, arguments):
        seen.append(arguments["password"])
        raise Stop

    for _ in range(2):
        with pytest.raises(Stop):
            engine.connect()
        session.refresh()
    assert [token.split("?")[0] for token in seen] == ["db.example:3306/"] * 2
    assert all(f"KEY{number}" in token and "DBUser=app" in token for number, token in enumerate(seen, 1))


def test_kombu_sends_and_receives_over_sqs_with_the_newest_set(session):
    kombu = pytest.importorskip("kombu")
    transport = integrations.kombu_transport(session)
    with mock_aws():
        connection = kombu.Connection("sqs://", transport=transport, transport_options={"region": "eu-west-1"})
        with connection, connection.SimpleQueue("tasks") as queue:
            keys = keys_of(connection.default_channel.sqs())
            queue.put({"number": 1})
            assert queue.get(timeout=60).payload == {"number": 1}
            session.refresh()
            queue.put({"number": 2})
    assert keys[0] == "KEY1" and keys[-1] == "KEY2"
