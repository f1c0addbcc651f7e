"""A storage of django-storages with the credentials of a session. Install ``django-storages[s3]``.

.. code-block:: python

    STORAGES = {
        "default": {
            "BACKEND": "shmcreds.django.S3Storage",
            "OPTIONS": {"session": "project.aws.session", "bucket_name": "files"},
        },
        …
    }

``project/aws.py`` makes the session. The setting ``AWS_S3_SESSION`` stands for the option in all storages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string
from storages.backends import s3
from storages.utils import setting

from . import integrations

if TYPE_CHECKING:
    import boto3

__all__ = ["S3Storage"]


class S3Storage(s3.S3Storage):  # type: ignore[misc]
    """The option ``session`` is a session, or the name by which it can be imported. Options with keys and profiles have
    no effect."""

    def get_default_settings(self) -> dict[str, Any]:
        return {**super().get_default_settings(), "session": setting("AWS_S3_SESSION")}

    def _create_session(self) -> boto3.Session:
        session = import_string(self.session) if isinstance(self.session, str) else self.session
        if session is None:
            raise ImproperlyConfigured(
                "shmcreds.django.S3Storage needs the option 'session', or the setting AWS_S3_SESSION: a session of shmcreds, "
                "or the name by which it can be imported."
            )
        # Each thread has a resource of its own, which botocore does not share between threads.
        return integrations.boto3_session(session)
