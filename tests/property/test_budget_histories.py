"""Any history of reservations: no limit is exceeded, and no reservation is lost or left."""

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers import Attribution
from garrison.workers.services.agent.limits.budgets import (
    MICROS,
    BudgetConfig,
    Budgets,
    Key,
    Limit,
    Request,
    Reserved,
    Scope,
)

PRICE = 3  # millionths for a token
NAMES = st.sampled_from("abcd")
RESERVE = st.tuples(
    st.just("reserve"), NAMES, st.integers(80, 300), st.sampled_from([0, 90, 500]), st.booleans()
)
STEPS = st.one_of(
    *[RESERVE] * 5,
    st.tuples(st.just("settle"), st.integers(0, 20), st.floats(0, 1)),
    st.tuples(st.just("lose"), st.integers(0, 20)),
    st.tuples(st.just("wait"), st.floats(0, 2000)),
    st.tuples(st.just("day"), st.integers(-1, 1)),
    st.tuples(st.just("restart")),
)
CONFIGS = st.builds(
    BudgetConfig,
    tokens_per_day=st.sampled_from([700, 5000, 0]),
    cost_per_day=st.sampled_from([0.0, 0.003]),
    per_person=st.builds(Limit, st.sampled_from([0, 600]), st.sampled_from([0.0, 0.002])),
    per_room=st.builds(Limit, st.sampled_from([0, 900]), st.just(0.0)),
    at_limit=st.sampled_from(["degrade", "say"]),
)


class World:
    """An agent's budgets and the uses that are under way."""

    def __init__(self, config: BudgetConfig) -> None:
        self.config, self.budgets = config, Budgets(config, 3, 7)
        self.budgets._prices["TEXT_LARGE"] = PRICE  # what it costs is known
        self.now, self.day = 0.0, 7
        self.under_way: list[Reserved] = []

    def reserve(self, name: str, read: int, written: int, can_shrink: bool) -> None:
        who = Attribution("a", "k", "chat", f"room {ord(name) % 2}", name)
        request = Request(read, written, can_shrink, "TEXT_LARGE")
        found = self.budgets.reserve(who, request, self.day, self.now)
        if isinstance(found, Reserved):
            assert found.written <= written
            self.under_way.append(found)

    def settle(self, number: int, part: float) -> None:
        if self.under_way:
            one = self.under_way.pop(number % len(self.under_way))
            tokens = int(one.tokens * part)
            self.budgets.settle(one.id, tokens, tokens * PRICE)

    def lose(self, number: int) -> None:
        if self.under_way:
            self.under_way.pop(number % len(self.under_way))

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def move(self, days: int) -> None:
        self.day += days

    def restart(self) -> None:
        self.budgets = Budgets(self.config, 3, self.budgets.day, self.budgets.rows)
        self.budgets._prices["TEXT_LARGE"] = PRICE
        self.under_way = []

    def check(self) -> None:
        limits = self.config.limits
        assert limits.keys() >= {key.scope for key in self.budgets.rows}
        held: dict[Key, tuple[int, int]] = dict.fromkeys(self.budgets.rows, (0, 0))
        for one in self.budgets.open.values():
            for key in one.keys:
                tokens, micros = held[key]
                held[key] = tokens + one.tokens, micros + one.micros
        for key, row in self.budgets.rows.items():
            limit = limits[key.scope]
            assert held[key] == (row.tokens_reserved, row.micros_reserved)
            if limit.tokens_per_day:
                assert row.tokens + row.tokens_reserved <= limit.tokens_per_day
            if limit.cost_per_day:
                assert row.micros + row.micros_reserved <= limit.cost_per_day * MICROS


@given(CONFIGS, st.lists(STEPS, min_size=5, max_size=60))
def test_no_limit_is_exceeded_and_nothing_leaks(
    config: BudgetConfig, steps: list[tuple[object, ...]]
) -> None:
    """Where a provider takes no more than was reserved: also over losses, days and restarts."""
    world = World(config)
    verbs = {"day": world.move}
    for verb, *args in steps:
        verbs.get(str(verb), getattr(world, str(verb), None))(*args)  # type: ignore[misc,arg-type]
        world.check()
    world.budgets.expire(float("inf"))
    assert world.budgets.open == {}
    assert all(row.tokens_reserved == 0 for row in world.budgets.rows.values())
    world.budgets.begin(99)
    assert world.budgets.left(Scope.AGENT)[0] in {None, config.tokens_per_day}
