"""``method="sts"``: a role."""

from __future__ import annotations

import datetime
import email.utils
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from .exceptions import BRSConfigurationError, BRSValidationError, BRSWarning
from .role_arguments import AssumeRoleConfig, STSClientConfig, checked_code
from .session import RefreshableSession
from .set_name import Unhashable, client_inputs, split_role
from .status import identity_by

if TYPE_CHECKING:
    from .types import AssumeRoleParams, Identity, STSClientParams, TemporaryCredentials

__all__ = ["STSRefreshableSession"]

SESSION_NAME = "boto3-refresh-session"
#: A clock that differs from that of STS by more than this is corrected. `Date` has whole seconds.
_SKEW = 2.0

MfaProvider = Callable[..., str] | list[str] | str


class STSRefreshableSession(RefreshableSession, registry_key="sts"):
    """A session with the credentials of a role.

    Args:
        assume_role_kwargs: The inputs of ``AssumeRole``.
        sts_client_kwargs: The arguments of the STS client that assumes the role.
        mfa_token_provider: Gives a one-time code for each fetch: a function, or a command.
        mfa_token_provider_kwargs: Arguments of the function, or of ``subprocess.run`` for the command.
        **kwargs: See :class:`RefreshableSession`.
    """

    _operation = "AssumeRole"
    refresh_method = "sts-assume-role"

    def __init__(
        self,
        assume_role_kwargs: AssumeRoleConfig | AssumeRoleParams | dict[str, Any],
        sts_client_kwargs: STSClientConfig | STSClientParams | dict[str, Any] | None = None,
        mfa_token_provider: MfaProvider | None = None,
        mfa_token_provider_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.assume_role_kwargs = _role(assume_role_kwargs)
        self.sts_client_kwargs = _client(sts_client_kwargs)
        self.mfa_token_provider = mfa_token_provider
        self.mfa_token_provider_kwargs = mfa_token_provider_kwargs or {}
        self._check_mfa()
        super().__init__(**kwargs)

    def _check_mfa(self) -> None:
        role, provider = self.assume_role_kwargs, self.mfa_token_provider
        if provider is None:
            if (role.SerialNumber is None) != (role.TokenCode is None):
                raise BRSConfigurationError(
                    "'SerialNumber' and 'TokenCode' belong together: give both, or 'SerialNumber' and "
                    "'mfa_token_provider'.",
                    param="SerialNumber/TokenCode",
                )
            return
        if not callable(provider) and not isinstance(provider, (list, str)):
            raise BRSValidationError(
                f"'mfa_token_provider' is of type {type(provider).__name__}; it must be a function, a command, or a "
                f"list of a command and its arguments.",
                param="mfa_token_provider",
            )
        if not isinstance(self.mfa_token_provider_kwargs, dict):
            raise BRSValidationError(
                f"'mfa_token_provider_kwargs' is of type {type(self.mfa_token_provider_kwargs).__name__}; it must be "
                f"a dict.",
                param="mfa_token_provider_kwargs",
            )
        if role.SerialNumber is None:
            raise BRSConfigurationError(
                "'mfa_token_provider' needs 'SerialNumber' in 'assume_role_kwargs'.", param="SerialNumber"
            )
        if not callable(provider):
            from . import mfa

            mfa.check_kwargs(self.mfa_token_provider_kwargs)
        if role.TokenCode is not None:
            BRSWarning.warn(
                "'TokenCode' is ignored: 'mfa_token_provider' gives a code for each fetch.", stacklevel=4
            )

    def _inputs(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if callable(self.mfa_token_provider):
            raise Unhashable("mfa_token_provider")
        public, guessable = split_role(self.assume_role_kwargs)
        client = client_inputs(self.sts_client_kwargs)
        client.setdefault("region_name", self._region())
        mfa_inputs = [self.mfa_token_provider, self.mfa_token_provider_kwargs]
        return {"role": public, "client": client, "mfa": mfa_inputs}, guessable

    def _native_inputs(self) -> tuple[str, dict[str, Any]]:
        from . import native_source

        self._check_fetches_itself(STSRefreshableSession)
        by = type(self)._mfa_token_from_command
        if self.mfa_token_provider is not None and by is not STSRefreshableSession._mfa_token_from_command:
            raise native_source.Untranslatable(f"{by.__qualname__} is code of this program")
        return "role", native_source.role_of(self)

    def _names_its_caller(self) -> bool:
        return bool(self.sts_client_kwargs.get("aws_access_key_id")) or self._has_keys

    def _region(self) -> str | None:
        region: str | None = self._base.get_config_variable("region")
        return region

    @property
    def _sts_client(self) -> Any:
        """The client that assumes the role, for those who look at it. Then it is kept, one for each process."""
        if not self._keeps_client():
            self._sts = (os.getpid(), self._new_client())
        return self._sts[1] if self._sts is not None else None

    def _keeps_client(self) -> bool:
        return self._sts is not None and self._sts[0] == os.getpid()

    def _new_client(self) -> Any:
        return self._base.create_client(**self._client_arguments())

    def _ask_sts(self, ask: Callable[[Any], Any]) -> Any:
        """The answer of STS to a call of the client."""
        if self._keeps_client():
            return ask(self._sts_client)
        # Made for this call: its sockets and its memory would be in each worker that is forked later.
        client = self._new_client()
        try:
            return ask(client)
        finally:
            client.close()

    def _client_arguments(self) -> dict[str, Any]:
        return {"region_name": self._region(), **self.sts_client_kwargs}

    def _get_credentials(self) -> TemporaryCredentials:
        inputs = dict(self.assume_role_kwargs)
        if self.mfa_token_provider is not None:
            inputs["TokenCode"] = self._token_code()
        elif "TokenCode" in inputs and self._has_fetched():
            raise BRSConfigurationError(
                "'TokenCode' was used for the first set, and STS takes each code once. Give 'mfa_token_provider', "
                "which is asked for a new code at each fetch.",
                param="TokenCode",
            )
        answer = self._ask_sts(lambda client: client.assume_role(**inputs))
        given = answer["Credentials"]
        arn = answer.get("AssumedRoleUser", {}).get("Arn", "").split(":")
        return {
            "access_key": given["AccessKeyId"],
            "secret_key": given["SecretAccessKey"],
            "token": given["SessionToken"],
            "expiry_time": _corrected(given["Expiration"], answer).isoformat(),
            "account_id": arn[4] if len(arn) > 4 and arn[4] else None,
        }

    def _has_fetched(self) -> bool:
        obtainer = getattr(self, "_obtainer", None)
        return obtainer is not None and obtainer.store.look() is not None

    def _token_code(self) -> str:
        provider = self.mfa_token_provider
        if callable(provider):
            code = provider(**self.mfa_token_provider_kwargs)
        else:
            code = self._mfa_token_from_command(
                cast("list[str] | str", provider), **self.mfa_token_provider_kwargs
            )
        return checked_code(code)

    def _mfa_token_from_command(self, command: list[str] | str, **kwargs: Any) -> str:
        from . import mfa

        return mfa.code_of_command(command, **kwargs)

    def source_identity(self) -> Identity:
        """Who assumes the role."""
        identity: Identity = self._ask_sts(identity_by)
        return identity

    def _identity_client(self) -> dict[str, Any]:
        own = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_account_id")
        return {k: v for k, v in self._client_arguments().items() if k not in own}


def _role(given: Any) -> AssumeRoleConfig:
    """A checked copy, with a session name."""
    if not isinstance(given, dict):
        raise BRSValidationError(
            f"'assume_role_kwargs' is of type {type(given).__name__}; it must be an AssumeRoleConfig or a dict.",
            param="assume_role_kwargs",
        )
    role = AssumeRoleConfig(**given)
    role.setdefault("RoleSessionName", SESSION_NAME)
    return role


def _client(given: Any) -> STSClientConfig:
    """A checked copy."""
    if given is None:
        return STSClientConfig()
    if not isinstance(given, dict):
        raise BRSValidationError(
            f"'sts_client_kwargs' is of type {type(given).__name__}; it must be an STSClientConfig or a dict.",
            param="sts_client_kwargs",
        )
    return STSClientConfig(**given)


def _corrected(expiration: datetime.datetime, answer: dict[str, Any]) -> datetime.datetime:
    """The expiry by the clock of this machine, where that differs from the clock of STS."""
    header = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        server = email.utils.parsedate_to_datetime(header)
    except (TypeError, ValueError):
        return expiration
    if server.tzinfo is None:
        return expiration
    skew = datetime.datetime.now(datetime.timezone.utc) - server
    return expiration + skew if abs(skew.total_seconds()) > _SKEW else expiration
