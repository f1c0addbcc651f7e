"""The rules of the Rust library, in Python."""

from __future__ import annotations

import pytest

from shmcreds.policy import Windows, next_attempt, points

MIN = 60.0


@pytest.mark.parametrize(
    ("lifetime", "before", "mandatory"),
    [
        (15 * MIN, 5 * MIN, MIN),
        (20 * MIN, 5 * MIN, MIN),
        (60 * MIN, 15 * MIN, MIN),
        (90 * MIN, 30 * MIN, MIN),
        (720 * MIN, 60 * MIN, MIN),
        (2.0, 2.0 / 3, 0.2),
    ],
)
def test_windows_follow_the_lifetime(lifetime, before, mandatory):
    at = points(Windows(), 7.0, lifetime, 0.0)
    assert at.expires - at.advisory == pytest.approx(before)
    assert at.expires - at.mandatory == pytest.approx(mandatory)


@pytest.mark.parametrize("lifetime", [0.01, 3.0, 900.0, 3600.0, 43200.0])
@pytest.mark.parametrize("advisory", [None, 1.0, 600.0, 9000.0])
@pytest.mark.parametrize("mandatory", [None, 1.0, 600.0, 9000.0])
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_points_are_ordered_and_leave_half_the_life(lifetime, advisory, mandatory, chance):
    at = points(Windows(advisory, mandatory), 1000.0, lifetime, chance)
    assert 1000 + lifetime / 2 <= at.advisory <= at.mandatory <= at.expires


@pytest.mark.parametrize("kind", ["terminal", "misconfigured", "transient", "throttled"])
@pytest.mark.parametrize("row", [1, 2, 5, 99])
@pytest.mark.parametrize("left", [-100.0, 0.0, 3.0, 1000.0])
@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_attempts_stay_within_their_limits(kind, row, left, chance):
    now = 500.0
    at = next_attempt(kind, row, now, now + left, chance)
    assert now < at <= now + 300
    assert at <= max(now + left, now + (60 if kind == "throttled" else 5))


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_window_of_the_user_begins_on_time(chance):
    assert points(Windows(600.0), 0.0, 3600.0, chance).advisory == 3000.0
    assert points(Windows(1700.0), 0.0, 3600.0, chance).advisory == 3600 * 11 / 20
    assert points(Windows(), 0.0, 3600.0, chance).advisory == (2700.0, 1800.0)[int(chance)]
