"""What botocore does with the credentials object."""

from __future__ import annotations

import contextlib
import datetime
import io
import time

import boto3
import botocore.exceptions
import botocore.session
import moto
import pytest
from botocore.awsrequest import AWSResponse
from botocore.credentials import ReadOnlyCredentials, RefreshableCredentials
from botocore.stub import Stubber
from local_sts import ACCOUNT, ROLE
from waiting import until

from shmcreds import BRSConfigurationError, RefreshableSession


def test_the_credentials_are_refreshable_ones(make, sts):
    credentials = make().get_credentials()
    assert isinstance(credentials, RefreshableCredentials)
    assert credentials.method == "sts-assume-role"
    assert credentials.refresh_needed() and credentials._is_expired()
    frozen = credentials.get_frozen_credentials()
    assert isinstance(frozen, ReadOnlyCredentials)
    assert frozen == (sts.key(1), f"secret-of-{sts.key(1)}", f"token-of-{sts.key(1)}", ACCOUNT)
    assert credentials.get_frozen_credentials() is frozen
    assert (credentials.access_key, credentials.secret_key, credentials.token) == frozen[:3]
    assert credentials.account_id == ACCOUNT
    assert credentials.get_deferred_property("account_id")() == ACCOUNT
    assert not credentials.refresh_needed() and not credentials._is_expired()
    assert credentials.refresh_needed(refresh_in=3601) and not credentials.refresh_needed(refresh_in=3500)
    before, expires = time.time(), sts.expires[sts.key(1)]
    remaining = credentials._seconds_remaining()
    assert expires - time.time() - 1 < remaining < expires - before + 1
    assert credentials._frozen_credentials is frozen
    assert credentials._refresh_using()["access_key"] == sts.key(2)


@pytest.mark.parametrize("name", ["access_key", "secret_key", "token", "account_id"])
def test_shared_credentials_cannot_be_set(make, name):
    with pytest.raises(BRSConfigurationError, match=f"'{name}' cannot be set: the set is shared"):
        setattr(make().get_credentials(), name, "x")


def test_clients_see_the_next_set_at_the_next_request(make, sts):
    session = make()
    client = session.client("s3")
    assert sts.key(1) in _presign(client)
    session.refresh()
    assert sts.key(2) in _presign(client)


def test_one_snapshot(make, sts):
    session = make()
    assert session.credentials["access_key"] == sts.key(1)
    assert session.credentials == session.refreshable_credentials()
    assert set(session.credentials) == {"access_key", "secret_key", "token", "expiry_time"}
    assert session.credentials["expiry_time"].endswith("+00:00")


def test_dynamodb_uses_the_endpoint_of_the_account(make, sts):
    client = make().client("dynamodb", region_name="us-east-1")
    seen = []
    client.meta.events.register("before-send", lambda request, **_: seen.append(request.url) or _answer(200, b"{}"))
    client.list_tables()
    assert seen == [f"https://{ACCOUNT}.ddb.us-east-1.amazonaws.com/"]


def test_whose_the_credentials_are(make, sts):
    session = make()
    assert session.whoami()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/app/s"
    assert session.get_identity()["UserId"] == sts.key(1)
    assert session.client("sts", **sts.client).get_caller_identity()["UserId"] == sts.key(1)
    assert session.source_identity()["UserId"] == "AKIABASE"
    assert set(sts.callers) == {"AKIABASE"}


def test_explicit_keys_are_the_base(make, sts):
    session = make(aws_access_key_id="AKIAOTHER", aws_secret_access_key="s")
    assert session.get_credentials().access_key == sts.key(1)
    assert sts.callers == ["AKIAOTHER"]
    session = make(client={"aws_access_key_id": "AKIATHIRD", "aws_secret_access_key": "s"})
    assert session.get_credentials().access_key == sts.key(2)
    assert sts.callers == ["AKIAOTHER", "AKIATHIRD"]
    assert session.whoami()["UserId"] == sts.key(2)
    assert session.source_identity()["UserId"] == "AKIATHIRD"


def test_a_botocore_session_of_the_user(sts):
    base = botocore.session.Session()
    base.set_credentials("AKIAOWN", "s")
    session = RefreshableSession(
        assume_role_kwargs={"RoleArn": ROLE}, sts_client_kwargs=sts.client, botocore_session=base
    )
    assert session.get_credentials().access_key == sts.key(1)
    assert sts.callers == ["AKIAOWN"]


def test_clients_are_cached(make):
    session = make()
    assert session.client("s3") is session.client("s3")
    assert session.client("s3") is not session.client("s3", region_name="eu-west-1")
    assert session.resource("s3", eviction_policy="LFU", max_size=2) is session.resource("s3", eviction_policy="LFU")
    assert (len(session.cache.client.LRU), len(session.cache.resource.LFU)) == (3, 1)


@moto.mock_aws
def test_moto_in_process():
    session = RefreshableSession(assume_role_kwargs={"RoleArn": ROLE})
    client = session.client("s3")
    client.create_bucket(Bucket="bucket")
    assert [b["Name"] for b in client.list_buckets()["Buckets"]] == ["bucket"]
    assert ":assumed-role/app/" in session.whoami()["Arn"]


def test_the_stubber(make, sts):
    session = make()
    with Stubber(session._sts_client) as stub:
        answer = {
            "Credentials": {
                "AccessKeyId": "ASIASTUBBEDSTUBBED", "SecretAccessKey": "s", "SessionToken": "t",
                "Expiration": datetime.datetime(2099, 1, 1, tzinfo=datetime.timezone.utc),
            }
        }
        stub.add_response("assume_role", answer)
        assert session.get_credentials().access_key == "ASIASTUBBEDSTUBBED"
    client = session.client("s3")
    with Stubber(client) as stub:
        stub.add_response("list_buckets", {"Buckets": [{"Name": "x"}]})
        assert client.list_buckets()["Buckets"] == [{"Name": "x"}]
    assert sts.calls == []


def test_rejected_sets_are_replaced_and_the_requests_repeated(make, sts, monkeypatch):
    made = []
    for mode in ("legacy", "standard"):
        monkeypatch.setenv("AWS_RETRY_MODE", mode)
        for code in ("ExpiredToken", "ExpiredTokenException", "InvalidToken"):
            session = make(role={"RoleSessionName": f"{mode}-{code}"})
            rejected = session.get_credentials().access_key
            made.append((rejected, *_refusing(session, rejected, code)))
    first = len(sts.calls)
    # Younger sets than 5 s are not replaced: what AWS rejects at once, it would reject again.
    fetched = time.monotonic()
    until(lambda: time.monotonic() > fetched + 5.1)
    for number, (rejected, client, signed) in enumerate(made, 1):
        client.list_queues()
        client.list_queues()
        replaced = sts.key(first + number)
        assert signed == [rejected, replaced, replaced]
        assert len(sts.calls) == first + number


def _refusing(session, rejected, code):
    """A client whose service refuses that key, and the keys that it has seen."""
    client = session.client("sqs", endpoint_url="http://127.0.0.1:9")
    signed = []

    def send(request, **_):
        key = request.headers["Authorization"].decode().split("Credential=")[1].split("/")[0]
        signed.append(key)
        if key == rejected:
            return _answer(400, b'{"__type":"%s","message":"no"}' % code.encode())
        return _answer(200, b"{}")

    client.meta.events.register("before-send", send)
    return client, signed


def test_a_set_rejected_as_soon_as_it_came_is_no_loop(make, sts):
    client = make().client("sqs", endpoint_url="http://127.0.0.1:9")
    client.meta.events.register(
        "before-send", lambda **_: _answer(400, b'{"__type":"ExpiredToken","message":"no"}')
    )
    for _ in range(5):
        with pytest.raises(botocore.exceptions.ClientError, match="ExpiredToken"):
            client.list_queues()
    assert len(sts.calls) == 1


def test_the_rejection_of_another_key_changes_nothing(make, sts):
    session = make()
    session.refresh()
    session.refresh()
    assert session._obtainer.reject(sts.key(1)) is False
    assert session._obtainer.reject(sts.key(2)) is True
    assert session._obtainer.reject(sts.key(2)) is False


def test_no_client_of_sts_stays_after_a_fetch_but_one_that_was_looked_at(make, sts):
    session = make()
    session.get_credentials().access_key
    assert session.source_identity()["UserId"] == "AKIABASE"
    assert session._sts is None
    kept = session._sts_client
    session.refresh()
    assert session._sts_client is kept
    assert len(sts.calls) == 2


def test_the_default_credentials_of_boto3_stay(make, sts):
    make().get_credentials().access_key
    assert boto3.Session().get_credentials().access_key == "AKIABASE"


class _Raw(io.BytesIO):
    def stream(self, **_):
        yield self.read()


def _answer(status, body):
    return AWSResponse("http://x", status, {"Content-Type": "application/x-amz-json-1.0"}, _Raw(body))


def _presign(client):
    return client.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})


def test_s3_express_makes_its_own_sessions_with_the_newest_set(make, sts):
    session = make()
    client = session.client("s3")
    seen = []

    def send(request, **_):
        key = request.headers["Authorization"].decode().split("Credential=")[1].split("/")[0]
        seen.append((key, "session" in request.url))
        if "session" not in request.url:
            return _answer(200, b"<ListBucketResult/>")
        # So short that the next request makes another session.
        body = (
            b"<CreateSessionResult><Credentials><SessionToken>t</SessionToken><SecretAccessKey>s</SecretAccessKey>"
            b"<AccessKeyId>EXPRESS</AccessKeyId><Expiration>2020-01-01T00:00:00Z</Expiration></Credentials>"
            b"</CreateSessionResult>"
        )
        return _answer(200, body)

    client.meta.events.register("before-send", send)
    for _ in range(2):
        with contextlib.suppress(Exception):
            client.list_objects_v2(Bucket="bucket--use1-az4--x-s3")
        session.refresh()
    assert [key for key, is_session in seen if is_session][0] == sts.key(1)
    assert [key for key, is_session in seen if is_session][-1] == sts.key(2)
