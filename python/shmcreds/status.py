"""What a session tells of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .credentials import isoformat
from .obtain import Obtainer

if TYPE_CHECKING:
    from .types import Identity, SessionStatus


def status_of(obtainer: Obtainer) -> SessionStatus:
    """The state of the session with that obtainer."""
    store = obtainer.store
    look, back_off, counters = store.look(), store.back_off(), store.counters()
    return {
        "name": store.name,
        "sharing": "host" if store.sharing == "host" else "process",
        "reason": store.reason,
        "engine": "native" if store.engine == "native" else "python",
        "state": "empty" if look is None else look.state,
        "generation": 0 if look is None else look.generation,
        "expiry_time": None if look is None else isoformat(look.expires),
        "source_calls": counters.source_calls,
        "failures": counters.failures,
        "last_failure": None
        if back_off is None
        else {
            "kind": back_off.failure.kind,
            "code": back_off.failure.code,
            "message": back_off.failure.message,
            "next_attempt_in": back_off.next_attempt_in,
        },
    }


def identity_by(sts: Any) -> Identity:
    """Whose the credentials of an STS client are."""
    answer = sts.get_caller_identity()
    return {
        "UserId": answer["UserId"],
        "Account": answer["Account"],
        "Arn": answer["Arn"],
        "ResponseMetadata": answer["ResponseMetadata"],
    }
