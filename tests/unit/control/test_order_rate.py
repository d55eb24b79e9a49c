"""How many orders another user may give."""

from garrison.supervisor.control.order_rate import BURST, EACH_S, USERS_MOST, OrderRate


def test_orders_are_free_again_one_by_one() -> None:
    """The first ones at once; then one each second. A user's orders are not another's."""
    now = 50.0
    rate = OrderRate(lambda: now)
    assert [rate.take(1) for _ in range(BURST)] == [0.0] * BURST
    assert rate.take(1) == rate.take(1) == EACH_S
    assert rate.take(2) == 0.0
    now += EACH_S
    assert (rate.take(1), rate.take(1)) == (0.0, EACH_S)
    now += BURST * EACH_S
    assert [rate.take(1) for _ in range(BURST + 1)] == [0.0] * BURST + [EACH_S]


def test_users_are_bounded() -> None:
    """One more waits until another's orders are all free again."""
    now = 0.0
    rate = OrderRate(lambda: now)
    assert {rate.take(uid) for uid in range(USERS_MOST)} == {0.0}
    assert rate.take(-5) == EACH_S
    now += EACH_S
    assert rate.take(-5) == 0.0
