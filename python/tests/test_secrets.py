"""No secret in a text that people see."""

from __future__ import annotations

import logging
import pickle
import traceback

import botocore.exceptions
import pytest
from local_sts import Failure

SECRETS = ("secret-of-", "token-of-", "guess-me", "explicit-secret")


def test_texts(make, sts, caplog):
    caplog.set_level(logging.DEBUG, logger="shmcreds")
    session = make(
        role={"ExternalId": "guess-me"}, aws_access_key_id="AKIAX", aws_secret_access_key="explicit-secret"
    )
    session.get_credentials().access_key
    texts = [repr(session), repr(session.get_credentials()), repr(session.status()), str(vars(session)["_obtainer"])]
    sts.failure = Failure("AccessDenied")
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        session.refresh()
    texts += ["".join(traceback.format_exception(raised.value)), repr(raised.value), caplog.text]
    texts += [repr(session.assume_role_kwargs), repr(session.sts_client_kwargs)]
    for text in texts:
        assert not any(secret in text for secret in SECRETS), text


def test_the_failure_that_is_kept_has_no_frames(make, sts):
    sts.failure = Failure("AccessDenied")
    session = make()
    with pytest.raises(botocore.exceptions.ClientError):
        session.get_credentials().access_key
    with pytest.raises(botocore.exceptions.ClientError) as raised:
        session.get_credentials().access_key
    frames = traceback.extract_tb(raised.value.__traceback__)
    assert not any("endpoint.py" in frame.filename for frame in frames)


def test_the_name_tells_nothing(make):
    session = make(role={"ExternalId": "guess-me"})
    name = session.status()["name"]
    assert "guess" not in name and "123456789012" not in name
    session.get_credentials().access_key
    assert b"token-of-" not in pickle.dumps(session)
