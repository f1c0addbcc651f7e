"""What an import loads: it costs what is used."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import shmcreds

_LOADED = """
import json, sys, boto3, boto3.session, botocore.session
before = set(sys.modules)
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def _loaded(code):
    done = subprocess.run([sys.executable, "-c", _LOADED.format(code=code)], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_the_package_loads_nothing():
    assert _loaded("import shmcreds") == {"shmcreds"}


def test_a_session_class_loads_no_method_and_no_cache_of_clients():
    loaded = _loaded("from shmcreds import RefreshableSession")
    assert "shmcreds.session" in loaded
    own = {name for name in loaded if name.startswith("shmcreds.")}
    assert loaded - own == {"shmcreds"}
    unused = "aio before custom export iot mfa native_source native_store process_store refresh_thread shared sts types program".split()
    assert not own & {f"shmcreds.{name}" for name in unused}


def test_a_session_of_a_role_loads_no_other_method():
    role = "arn:aws:iam::123456789012:role/app"
    code = f"import shmcreds; shmcreds.RefreshableSession(assume_role_kwargs={{'RoleArn': '{role}'}})"
    loaded = _loaded(code)
    assert "shmcreds.sts" in loaded
    assert not loaded & {"shmcreds.iot", "shmcreds.custom", "shmcreds.mfa", "boto3_client_cache", "asyncio"}


@pytest.mark.parametrize("name", shmcreds.__all__)
def test_each_name_is_there(name):
    assert getattr(shmcreds, name) is not None or name == "IOT_EXTRA_INSTALLED"
    assert name in dir(shmcreds)


def test_a_name_that_is_not():
    with pytest.raises(AttributeError, match="module 'shmcreds' has no attribute 'nope'"):
        shmcreds.nope


def test_a_star():
    names = {}
    exec("from shmcreds import *", names)
    assert set(shmcreds.__all__) <= set(names)
    assert names["RefreshableSession"].get_available_methods() == ["custom", "iot", "sts"]
