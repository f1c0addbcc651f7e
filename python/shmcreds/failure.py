"""A failure of the source as plain data, so that each process that waits for the set gets the same error."""

from typing import Any, NamedTuple

import botocore.exceptions as botocore_errors

from .exceptions import (
    BRSConfigurationError,
    BRSConnectionError,
    BRSCredentialError,
    BRSError,
    BRSRequestError,
    BRSValidationError,
)

#: What can help: nothing, another attempt, asking less often, another configuration.
TERMINAL, TRANSIENT, THROTTLED, MISCONFIGURED = "terminal", "transient", "throttled", "misconfigured"

_LONGEST_MESSAGE = 512

#: The codes of AWS that are not transient. The Rust library has the same table.
_CODES = {
    TERMINAL: (
        "AccessDenied AccessDeniedException AuthFailure ExpiredToken ExpiredTokenException ForbiddenException "
        "IDPRejectedClaim IDPRejectedClaimException IncompleteSignature InvalidClientTokenId InvalidIdentityToken "
        "InvalidIdentityTokenException MissingAuthenticationToken OptInRequired RequestExpired "
        "RequestTimeTooSkewed InvalidSignatureException SignatureDoesNotMatch UnauthorizedException "
        "UnrecognizedClientException"
    ),
    THROTTLED: (
        "LimitExceededException RequestLimitExceeded RequestThrottled RequestThrottledException SlowDown "
        "ThrottledException Throttling ThrottlingException TooManyRequestsException"
    ),
    MISCONFIGURED: (
        "InvalidAction InvalidParameterCombination InvalidParameterValue InvalidQueryParameter "
        "InvalidRequestException MalformedPolicyDocument MalformedPolicyDocumentException MalformedQueryString "
        "MissingAction MissingParameter PackedPolicyTooLarge PackedPolicyTooLargeException RegionDisabled "
        "RegionDisabledException ResourceNotFoundException ValidationError ValidationException"
    ),
}
_KIND_OF_CODE = {code: kind for kind, codes in _CODES.items() for code in codes.split()}

_KIND_OF_STATUS = {
    401: TERMINAL, 403: TERMINAL, 429: THROTTLED, 400: MISCONFIGURED, 404: MISCONFIGURED, 405: MISCONFIGURED,
}  # fmt: skip

_MISCONFIGURED_ERRORS = (
    BRSConfigurationError,
    BRSValidationError,
    TypeError,
    botocore_errors.NoCredentialsError,
    botocore_errors.PartialCredentialsError,
    botocore_errors.ProfileNotFound,
    botocore_errors.ConfigNotFound,
    botocore_errors.ConfigParseError,
    botocore_errors.NoRegionError,
    botocore_errors.ParamValidationError,
    botocore_errors.UnknownServiceError,
)


class Failure(NamedTuple):
    """What is told to all processes."""

    kind: str
    message: str
    code: str | None = None
    request_id: str | None = None
    status: int | None = None


class BackOff(NamedTuple):
    """The newest failure, while no process may ask the source again."""

    failure: Failure
    #: Tells one failure from the next.
    number: int
    #: Seconds until the source may be asked again.
    next_attempt_in: float


def failure_of(error: BaseException) -> Failure:
    """The failure that an exception of the source is."""
    if isinstance(error, botocore_errors.ClientError):
        about = error.response.get("Error", {})
        answer = error.response.get("ResponseMetadata", {})
        code = about.get("Code") or "Unknown"
        return Failure(
            _KIND_OF_CODE.get(code, TRANSIENT),
            _cut(str(about.get("Message") or "")),
            code,
            answer.get("RequestId"),
            answer.get("HTTPStatusCode"),
        )
    if isinstance(error, BRSRequestError):
        kind = _KIND_OF_STATUS.get(error.status_code or 0, TRANSIENT)
        return Failure(kind, _cut(error.message), status=error.status_code)
    kind = MISCONFIGURED if isinstance(error, _MISCONFIGURED_ERRORS) else TRANSIENT
    if isinstance(error, BRSCredentialError):
        kind = TERMINAL
    text = error.message if isinstance(error, BRSError) else f"{type(error).__name__}: {error}"
    return Failure(kind, _cut(text))


def exception_of(failure: Failure, operation: str) -> Exception:
    """The exception for a failure that another process had: made anew from what it told."""
    if failure.code is not None:
        response: dict[str, Any] = {
            "Error": {"Code": failure.code, "Message": failure.message},
            "ResponseMetadata": {
                "RequestId": failure.request_id or "",
                "HTTPStatusCode": failure.status or 0,
                "HTTPHeaders": {},
                "RetryAttempts": 0,
            },
        }
        rebuilt: Exception = botocore_errors.ClientError(response, operation)
        return rebuilt
    if failure.status is not None:
        return BRSRequestError(failure.message, status_code=failure.status)
    if failure.kind == MISCONFIGURED:
        return BRSConfigurationError(failure.message)
    if failure.kind == TERMINAL:
        return BRSCredentialError(failure.message)
    return BRSConnectionError(failure.message)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_MESSAGE else text[: _LONGEST_MESSAGE - 1] + "…"
