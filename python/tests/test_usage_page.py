"""The eight blocks of usage of boto3-refresh-session, with the import changed, a valid ARN put in and Config imported."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import boto3
import moto
import pytest
from botocore.config import Config

from shmcreds import BRSValidationError, RefreshableSession

ROLE = {"RoleArn": "arn:aws:iam::123456789012:role/app"}


@pytest.fixture(autouse=True)
def aws():
    with moto.mock_aws():
        yield


def test_1_basic():
    session = RefreshableSession(assume_role_kwargs=ROLE)
    assert session.client("s3").list_buckets()["Buckets"] == []


def test_2_resource():
    session = RefreshableSession(assume_role_kwargs=ROLE)
    assert list(session.resource("s3").buckets.all()) == []


def test_3_default_session(monkeypatch):
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", RefreshableSession(assume_role_kwargs=ROLE))
    assert boto3.client("s3").list_buckets()["Buckets"] == []


def test_4_parameters_of_the_role():
    session = RefreshableSession(assume_role_kwargs={**ROLE, "RoleSessionName": "mine", "DurationSeconds": 900})
    assert session.whoami()["Arn"].endswith(":assumed-role/app/mine")


def test_5_parameters_of_the_client():
    config = Config(retries={"max_attempts": 10, "mode": "standard"})
    session = RefreshableSession(assume_role_kwargs=ROLE, sts_client_kwargs={"config": config})
    assert session.client("s3").list_buckets()["Buckets"] == []


def test_6_parameters_of_the_session():
    session = RefreshableSession(assume_role_kwargs=ROLE, region_name="eu-west-1")
    assert session.client("s3").meta.region_name == "eu-west-1"


def test_7_eager():
    session = RefreshableSession(assume_role_kwargs=ROLE, defer_refresh=False)
    assert session.status()["generation"] == 1


def test_8_threads():
    def buckets(_):
        return session.client("s3").list_buckets()["Buckets"]

    session = RefreshableSession(assume_role_kwargs=ROLE)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(buckets, range(8))) == [[]] * 8


def test_what_cannot_run_verbatim():
    with pytest.raises(BRSValidationError, match="'RoleArn'"):
        RefreshableSession(assume_role_kwargs={"RoleArn": "<your-role-arn>"})
    with pytest.raises(BRSValidationError, match="'assume_role_kwargs'"):
        RefreshableSession(assume_role_kwargs={...})
