"""One set of temporary AWS credentials for all processes of a server.

>>> from shmcreds import RefreshableSession
>>> session = RefreshableSession(assume_role_kwargs={"RoleArn": "arn:aws:iam::123456789012:role/app"})
>>> s3 = session.client("s3")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .role_arguments import AssumeRoleConfig, STSClientConfig
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

#: Where each name is. A module is loaded with the first use of one of its names, so that an import costs what is used.
_MODULES = {
    "role_arguments": "AssumeRoleConfig STSClientConfig",
    "custom": "CustomRefreshableSession",
    "exceptions": "BRSConfigurationError BRSConnectionError BRSCredentialError BRSError BRSRequestError "
    "BRSValidationError BRSWarning",
    "iot": "IOT_EXTRA_INSTALLED IOTX509RefreshableSession",
    "program": "find_bin",
    "session": "RefreshableSession",
    "shared": "SharedSession boto3_session",
    "sts": "STSRefreshableSession",
    "types": "PKCS11 AssumeRoleParams Identity LastFailure Method RefreshMethod RegistryKey SessionStatus "
    "STSClientParams TemporaryCredentials Transport",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
