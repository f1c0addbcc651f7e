"""One set of temporary AWS credentials for all processes of a server.

>>> from shmcreds import RefreshableSession
>>> session = RefreshableSession(assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"})
>>> s3 = session.client("s3")
"""

from __future__ import annotations

from .config import AssumeRoleConfig, STSClientConfig
from .custom import CustomRefreshableSession
from .exceptions import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSError,
    BRSRequestError,
    BRSValidationError,
    BRSWarning,
)
from .iot import IOT_EXTRA_INSTALLED, IOTX509RefreshableSession
from .program import find_bin
from .session import RefreshableSession
from .shared import SharedSession, boto3_session
from .sts import STSRefreshableSession
from .types import (
    PKCS11,
    AssumeRoleParams,
    Identity,
    LastFailure,
    Method,
    RefreshMethod,
    RegistryKey,
    SessionStatus,
    STSClientParams,
    TemporaryCredentials,
    Transport,
)

__version__ = "0.2.0"

__all__ = [
    "IOT_EXTRA_INSTALLED",
    "PKCS11",
    "AssumeRoleConfig",
    "AssumeRoleParams",
    "BRSConfigurationError",
    "BRSConnectionError",
    "BRSCredentialError",
    "BRSError",
    "BRSRequestError",
    "BRSValidationError",
    "BRSWarning",
    "CustomRefreshableSession",
    "IOTX509RefreshableSession",
    "Identity",
    "LastFailure",
    "Method",
    "RefreshMethod",
    "RefreshableSession",
    "RegistryKey",
    "STSClientConfig",
    "STSClientParams",
    "STSRefreshableSession",
    "SessionStatus",
    "SharedSession",
    "TemporaryCredentials",
    "Transport",
    "boto3_session",
    "find_bin",
]
