from __future__ import annotations

import pickle

import pytest

import shmcreds
from shmcreds import BRSError, BRSWarning

KINDS = ["Configuration", "Connection", "Credential", "Request", "Validation"]


@pytest.mark.parametrize("kind", KINDS)
def test_errors(kind):
    cls = getattr(shmcreds, f"BRS{kind}Error")
    assert issubclass(cls, BRSError)
    error = cls("msg", code="c", status_code=3, details={"a": 1}, param="p", value="v")
    assert str(error) == "msg (code='c', status_code=3, param='p', value='v', details={'a': 1})"
    assert repr(error) == f"{cls.__name__}('msg', code='c', status_code=3, param='p', value='v', details={{'a': 1}})"
    assert (str(cls("m")), repr(cls())) == ("m", f"{cls.__name__}('')")
    assert str(cls("m", code=0)) == "m (code=0)"
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (cls, str(error))


def test_warning():
    with pytest.warns(BRSWarning) as told:
        BRSWarning.warn("x")
    assert (str(told[0].message), repr(told[0].message)) == ("x", "BRSWarning('x')")
    assert told[0].filename == __file__
