"""Budgets of the use of models: reserved, settled, limited, by day."""

from typing import Any

import pytest

from garrison.workers import Attribution
from garrison.workers.services.agent.limits.budgets import (
    LEASE_S,
    MICROS,
    OTHERS,
    BudgetConfig,
    Budgets,
    Key,
    Limit,
    Refused,
    Request,
    Reserved,
    Row,
    Scope,
    digest,
)

ADA = Attribution("a", "a.agent", "chat", "room", "ada")
BOB = Attribution("a", "a.agent", "chat", "room", "bob")
ASK = Request(100, 400, True, "TEXT_LARGE")


def budgets(most: int = 100, **config: Any) -> Budgets:
    """Return the budgets of a config, on day 7."""
    return Budgets(BudgetConfig(**config), most, 7)


def made(found: Reserved | Refused) -> Reserved:
    """Return a reservation that was made."""
    assert isinstance(found, Reserved)
    return found


def test_what_is_left_bounds_the_text() -> None:
    """What is reserved counts; what was not used is there for the next one."""
    own = budgets(tokens_per_day=1000)
    first = made(own.reserve(ADA, ASK, 7, 0.0))
    assert (first.tokens, first.written, first.smaller) == (500, 400, False)
    second = made(own.reserve(BOB, ASK, 7, 0.0))
    assert own.reserve(BOB, ASK, 7, 0.0) == Refused(Scope.AGENT)
    own.settle(first.id, 130, None)
    third = made(own.reserve(BOB, ASK, 7, 0.0))
    assert third.written == 270
    for one in (second, third):
        own.settle(one.id, 200, None)
    assert own.left() == (470, None)
    assert own.open == {}
    assert own.settle(first.id, 999, 9) == ()  # once


def test_each_has_its_own_budget() -> None:
    """A room, a person and a task; who has none is not limited by it."""
    own = budgets(
        per_person=Limit(tokens_per_day=500),
        per_room=Limit(tokens_per_day=900),
        per_task=Limit(tokens_per_day=500),
    )
    made(own.reserve(ADA, ASK, 7, 0.0))
    assert own.reserve(ADA, ASK, 7, 0.0) == Refused(Scope.PERSON)
    assert made(own.reserve(BOB, ASK, 7, 0.0)).written == 300  # of the room
    carl = Attribution("a", "a.agent", "chat", "room", "carl")
    assert own.reserve(carl, ASK, 7, 0.0) == Refused(Scope.ROOM)
    task = Attribution("a", "a.agent", task="t1")
    made(own.reserve(task, ASK, 7, 0.0))
    assert own.reserve(task, ASK, 7, 0.0) == Refused(Scope.TASK)
    made(own.reserve(Attribution("a", "a.agent"), ASK, 7, 0.0))


def test_the_small_model_answers_before_the_limit() -> None:
    """From a part of it on; what cannot shrink goes on as it is."""
    own = budgets(tokens_per_day=1000, at_limit="degrade", degrade_at=0.6)
    assert not made(own.reserve(ADA, ASK, 7, 0.0)).smaller
    fixed = made(own.reserve(ADA, Request(10, 90, False, "TEXT_SMALL"), 7, 0.0))
    assert not fixed.smaller
    small = made(own.reserve(ADA, ASK, 7, 0.0))
    assert (small.smaller, small.written) == (True, 300)
    assert own.reserve(ADA, ASK, 7, 0.0) == Refused(Scope.AGENT)


def test_money_is_reserved_at_the_highest_price_so_far() -> None:
    """Before the first use it is not known."""
    own = budgets(cost_per_day=1.0)
    first = made(own.reserve(ADA, ASK, 7, 0.0))
    assert first.micros == 0
    own.settle(first.id, 200, 200_000)
    second = made(own.reserve(ADA, ASK, 7, 0.0))
    assert second.micros == 500_000
    third = made(own.reserve(ADA, ASK, 7, 0.0))
    assert third.written == 200  # 300,000 are left
    own.settle(second.id, 300, 600_000)
    own.settle(third.id, 300, 300_000)
    assert own.reserve(ADA, ASK, 7, 0.0) == Refused(Scope.AGENT)
    assert own.left() == (None, 0.0)


def test_a_new_day_has_a_new_budget() -> None:
    """An earlier one has not. A use that began the day before is not counted in the new one."""
    own = budgets(tokens_per_day=600)
    first = made(own.reserve(ADA, ASK, 7, 0.0))
    assert own.reserve(ADA, ASK, 6, 0.0) == Refused(Scope.AGENT)
    second = made(own.reserve(ADA, ASK, 8, 0.0))
    assert own.settle(first.id, 500, None) == ()
    own.settle(second.id, 50, None)
    assert own.left() == (550, None)


def test_what_is_not_settled_counts_in_full() -> None:
    """After its lease, and after a crash: what it has used is not known."""
    own = budgets(tokens_per_day=1000)
    made(own.reserve(ADA, ASK, 7, 0.0))
    again = Budgets(BudgetConfig(tokens_per_day=1000), 100, 7, own.rows)
    assert again.left() == (500, None)
    assert made(again.reserve(ADA, ASK, 7, 0.0)).tokens == 500
    assert own.left() == (1000, None)
    own.expire(LEASE_S)
    assert own.left() == (500, None)
    left = made(own.reserve(ADA, ASK, 7, LEASE_S))
    own.settle(left.id, None, None)
    assert own.left() == (0, None)


def test_beyond_the_bound_all_others_share_one() -> None:
    """So that new persons are no way around a limit, and the table is bounded."""
    own = budgets(most=2, per_person=Limit(tokens_per_day=600))
    found = [own.reserve(Attribution("a", "k", "chat", "r", name), ASK, 7, 0.0) for name in "abcd"]
    assert found[-1] == Refused(Scope.PERSON)
    assert len(own.rows) == 3
    assert own.rows[Key(Scope.PERSON, OTHERS)] == Row(tokens_reserved=500)


def test_a_sender_is_told_once() -> None:
    """The agent's own budget in each room, also after a restart; anew on the next day."""
    own = budgets(tokens_per_day=10, per_person=Limit(tokens_per_day=10))
    other = Attribution("a", "a.agent", "chat", "elsewhere", "ada")
    assert own.tell(ADA, Scope.AGENT) == Key(Scope.AGENT, digest("chat", "room"))
    assert own.tell(BOB, Scope.AGENT) is None
    assert own.tell(other, Scope.AGENT) is not None
    assert own.tell(ADA, Scope.PERSON) == Key(Scope.PERSON, digest("chat", "ada"))
    assert own.tell(other, Scope.PERSON) is None
    again = Budgets(BudgetConfig(tokens_per_day=10), 100, 7, own.rows)
    assert again.tell(ADA, Scope.AGENT) is None
    own.begin(8)
    assert own.tell(ADA, Scope.AGENT) is not None


@pytest.mark.parametrize(
    ("config", "limited"),
    [
        ({}, set()),
        ({"cost_per_day": 1.0}, {Scope.AGENT}),
        ({"per_room": Limit(), "per_task": Limit(tokens_per_day=1)}, {Scope.TASK}),
    ],
)
def test_limits_that_are_none_cost_nothing(config: dict[str, Any], limited: set[Scope]) -> None:
    """No row is kept for them."""
    own = budgets(**config)
    own.reserve(Attribution("a", "k", "s", "r", "p", "t"), Request(1, 0, False), 7, 0.0)
    assert {key.scope for key in own.rows} == limited


def test_a_use_without_a_text_needs_a_rest() -> None:
    """An embedding, or an image, whose tokens are not known."""
    own = budgets(tokens_per_day=10)
    one = made(own.reserve(ADA, Request(10, 0, False), 7, 0.0))
    own.settle(one.id, 10, 3 * MICROS)
    assert own.reserve(ADA, Request(1, 0, False), 7, 0.0) == Refused(Scope.AGENT)
