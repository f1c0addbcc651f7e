"""Differences between the versions of botocore."""

from __future__ import annotations

from botocore.credentials import ReadOnlyCredentials

#: The account id came with botocore 1.35.
HAS_ACCOUNT_ID = "account_id" in ReadOnlyCredentials._fields


def read_only(
    access_key: str, secret_key: str, token: str | None, account_id: str | None
) -> ReadOnlyCredentials:
    if HAS_ACCOUNT_ID:
        return ReadOnlyCredentials(access_key, secret_key, token, account_id)
    return ReadOnlyCredentials(access_key, secret_key, token)
