"""What each member may use of what all share."""

import pytest

from garrison.supervisor.control.shares import MEMBERS_MOST, Shares


def test_a_share_is_a_burst_and_then_a_rate() -> None:
    """What was used is free again as time passes. A member's share is not another's."""
    shares, now = Shares(burst=8, rate=2), 100.0
    assert [shares.take("a", 1, now) for _ in range(9)] == [True] * 8 + [False]
    assert shares.take("b", 8, now)
    now += 1.0
    assert [shares.take("a", 1, now) for _ in range(2)] == [True, False]


def test_what_was_used_beyond_the_share_is_forgotten_in_time() -> None:
    """A member that has flooded for long is within its share again after twice a burst's time."""
    shares, now = Shares(burst=1, rate=1), 0.0
    for _ in range(1000):
        shares.take("a", 1, now)
    assert not shares.take("a", 0, now + 0.9)
    assert shares.take("a", 1, now + 2.0)


@pytest.mark.parametrize("later", [0.0, 10.0])
def test_members_are_bounded(later: float) -> None:
    """Those whose share is free are forgotten first, then the one that was seen first."""
    shares = Shares(burst=1, rate=1)
    for number in range(3 * MEMBERS_MOST):
        shares.take(str(number), 1, later * number)
    assert len(shares._free_at) <= MEMBERS_MOST
    assert not shares.take(str(3 * MEMBERS_MOST - 1), 1, later * (3 * MEMBERS_MOST - 1))
