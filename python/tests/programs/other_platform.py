"""A session where there is no fork and no native module: what the argument names as the platform."""

import builtins
import os
import sys

import moto  # Before the platform changes: it and botocore look at it, too.
from reading import tell

sys.platform = sys.argv[1]
# The module is absent, and not turned off.
os.environ.pop("SHMCREDS_NATIVE", None)
for name in ("fork", "register_at_fork", "memfd_create"):
    delattr(os, name)
original = builtins.__import__


def without_fcntl(name, *args, **kwargs):
    if name == "fcntl" or (name == "" and "_native" in (args[2] or ())):
        raise ImportError(f"no {name} here")
    return original(name, *args, **kwargs)


builtins.__import__ = without_fcntl
import shmcreds  # noqa: E402

errors = []
for call in (
    lambda: shmcreds.SharedSession.attach("web"),
    lambda: shmcreds.RefreshableSession(assume_role_kwargs=role, sealed=True),
):
    role = {"RoleArn": "arn:aws:iam::123456789012:role/app"}
    try:
        call()
    except shmcreds.BRSConfigurationError as error:
        errors.append(str(error))
with moto.mock_aws():
    session = shmcreds.RefreshableSession(assume_role_kwargs=role, defer_refresh=False)
    buckets = session.client("s3").list_buckets()["Buckets"]
    session.refresh()
tell({"errors": errors, "buckets": buckets, **session.status()})
