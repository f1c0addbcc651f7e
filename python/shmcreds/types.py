"""Types of arguments and results."""

# Without deferred annotations, here and in other modules of plain data: each field would be compiled at the import.
from typing import Any, Literal, TypedDict, TypeVar

from botocore.config import Config

__all__ = [
    "PKCS11",
    "AssumeRoleParams",
    "Engine",
    "Identity",
    "LastFailure",
    "Method",
    "RefreshMethod",
    "RegistryKey",
    "STSClientParams",
    "SessionStatus",
    "TemporaryCredentials",
    "Transport",
]

#: What ``RefreshableSession(method=…)`` takes.
Method = Literal["custom", "iot", "sts"]
#: The attribute ``refresh_method`` of a session.
RefreshMethod = Literal["custom", "iot-x509", "sts-assume-role"]
#: Which code calls the source: this interpreter, or the Rust library.
Engine = Literal["auto", "native", "python"]
#: How an MQTT connection authenticates.
Transport = Literal["x509", "ws"]
RegistryKey = TypeVar("RegistryKey", bound=str)


class _RequiredCredentials(TypedDict):
    access_key: str
    secret_key: str
    token: str
    expiry_time: str


class TemporaryCredentials(_RequiredCredentials, total=False):
    """One set. ``expiry_time`` is an ISO 8601 text; a custom method may give a ``datetime``, too."""

    account_id: str | None


class Identity(TypedDict, total=False):
    """What ``whoami()`` tells. ``method`` and ``source`` stand there for custom and IoT sessions."""

    Arn: str
    Account: str
    UserId: str
    ResponseMetadata: dict[str, Any]
    method: str
    source: str


class PolicyDescriptorType(TypedDict):
    arn: str


class Tag(TypedDict):
    Key: str
    Value: str


class ProvidedContext(TypedDict):
    ProviderArn: str
    ContextAssertion: str


class AssumeRoleParams(TypedDict, total=False):
    """The inputs of ``AssumeRole``; ``RoleArn`` is required."""

    RoleArn: str
    RoleSessionName: str
    PolicyArns: list[PolicyDescriptorType]
    Policy: str
    DurationSeconds: int
    ExternalId: str
    SerialNumber: str
    TokenCode: str
    Tags: list[Tag]
    TransitiveTagKeys: list[str]
    SourceIdentity: str
    ProvidedContexts: list[ProvidedContext]


class STSClientParams(TypedDict, total=False):
    """The arguments of the STS client that assumes the role."""

    service_name: str
    region_name: str
    api_version: str
    use_ssl: bool
    verify: bool | str
    endpoint_url: str
    aws_access_key_id: str
    aws_secret_access_key: str
    aws_session_token: str
    config: Config
    aws_account_id: str


class PKCS11(TypedDict, total=False):
    """A private key in a hardware module."""

    pkcs11_lib: str
    user_pin: str
    slot_id: int
    token_label: str
    private_key_label: str


class LastFailure(TypedDict):
    """The newest failure of the source. ``next_attempt_in`` is in seconds."""

    kind: str
    code: str | None
    message: str
    next_attempt_in: float


class SessionStatus(TypedDict):
    """The state of a session."""

    name: str
    #: ``host``: all processes of this user share the set. ``process``: this one alone has it.
    sharing: Literal["host", "process"]
    #: Why the sharing is ``process``; empty where it is ``host``.
    reason: str
    engine: Literal["native", "python"]
    #: ``empty``, ``fresh``, ``advisory``, ``mandatory`` or ``expired``.
    state: str
    generation: int
    #: ISO 8601; None where there is no set.
    expiry_time: str | None
    source_calls: int
    failures: int
    last_failure: LastFailure | None
