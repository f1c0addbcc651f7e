"""How programs use the package, for the type checker alone: see test_types.py."""

import boto3

from shmcreds import (
    AssumeRoleConfig,
    BRSError,
    Identity,
    RefreshableSession,
    SessionStatus,
    SharedSession,
    STSClientConfig,
    STSRefreshableSession,
    TemporaryCredentials,
    aio,
    boto3_session,
    find_bin,
)


def source() -> TemporaryCredentials:
    return {"access_key": "a", "secret_key": "s", "token": "t", "expiry_time": "2099-01-01T00:00:00Z"}


def refreshable() -> None:
    role = AssumeRoleConfig(RoleArn="arn:aws:iam::123456789012:role/app", DurationSeconds=900)
    session: RefreshableSession = STSRefreshableSession(role, STSClientConfig(region_name="us-east-1"))
    RefreshableSession(method="custom", custom_credentials_method=source)
    plain: boto3.Session = session
    boto3.DEFAULT_SESSION = plain
    identity: Identity = session.whoami()
    status: SessionStatus = session.status()
    credentials: TemporaryCredentials = session.credentials
    print(identity["Arn"], status["state"], status["generation"] + 1, credentials["expiry_time"].upper())


def shared() -> None:
    try:
        session = SharedSession.attach_or_create("web", source)
    except BRSError as error:
        print(error.code, error.param)
        return
    with_boto3: boto3.Session = session.boto3_session(region_name="us-east-1")
    print(with_boto3, session.invalidate("ASIA").bit_length(), find_bin().upper())
    print(boto3_session("web"), aio.session(session))
