"""What a provider was used for, and what that costs."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.model_support.prices import Price
from garrison.workers.services.model_support.usage import (
    FINISHES_MOST,
    HOURS,
    KEPT_DAYS,
    KEPT_HOURS,
    ROWS_MOST,
    Counts,
    Kept,
    Usage,
    UsageKey,
    Used,
    body_of,
    day_of,
)

PRICE = Price(input=2.0, output=8.0, cached=0.5)
COSTS = [
    (PRICE, Used(1_000_000, 0, 0, 0), 2.0),
    (PRICE, Used(0, 0, 0, 1_000_000), 8.0),
    (PRICE, Used(1_000_000, 1_000_000, 0, 0), 0.5),
    (PRICE, Used(1_000_000, 400_000, 600_000, 0), 1.4),  # what is stored has no price of its own
    (Price(input=3.0, output=15.0, cached=0.3, stored=3.75), Used(100, 20, 80, 10), 0.000456),
    (Price(input=2.0), Used(1_000_000, 500_000, 0, 7), 2.0),
    (PRICE, Used(10, 20, 0, 0), 0.00001),  # a server that counts what was cached apart
]


@pytest.mark.parametrize(("price", "used", "cost"), COSTS)
def test_a_request_costs_what_its_tokens_do(price: Price, used: Used, cost: float) -> None:
    """What came from the cache has its own price."""
    assert price.of(used) == pytest.approx(cost)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_an_estimate_is_never_too_cheap(fresh: int, cached: int, stored: int, out: int) -> None:
    """A reservation covers a request that uses as many tokens."""
    price = Price(input=3.0, output=1.0, cached=0.3, stored=3.75)
    used = Used(fresh + cached + stored, cached, stored, out)
    assert price.of(used) <= price.most(used.tokens) + 1e-9


def test_usage_adds_up() -> None:
    """Failures count as requests, with what they used; a day ends."""
    usage = Usage(Kept())
    ada, bob = UsageKey(48, "a", "chat", "ada"), UsageKey(49, "a", "chat", "bob")
    usage.add(ada, Used(7, 2, 0, 3, "stop"), False, 0.25)
    usage.add(ada, Used(1, 0, 0, 1, "length"), True, None)
    usage.add(bob, Used(), True, None)
    facts = usage.today.facts(has_prices=True)

    assert facts == {
        "requests": 3,
        "failures": 2,
        "tokens_in": 8,
        "tokens_cached": 2,
        "tokens_out": 4,
        "cut_short": 1,
        "cost": 0.25,
        "unpriced": 1,
    }
    assert "cost" not in usage.today.facts(has_prices=False)
    assert usage.rows[ada].finishes == {"stop": 1, "length": 1}
    assert usage.ended(49) == [ada]
    assert body_of("openai", ada, usage.rows[ada])["cost"] is None  # it is not all known
    usage.begin(47)  # a clock that is set back
    assert usage.today.requests == 3
    usage.begin(HOURS * 3)
    assert usage.today.requests == 0
    usage.begin(49 + KEPT_HOURS)
    assert usage.rows == {}


def test_rows_are_bounded_and_nothing_is_lost() -> None:
    """Beyond the bound persons are counted together."""
    usage = Usage(Kept())
    for number in range(ROWS_MOST + 50):
        usage.add(UsageKey(5, "a", "chat", str(number)), Used(1), False, 1.0)
    assert len(usage.rows) == ROWS_MOST
    assert sum(one.requests for one in usage.rows.values()) == ROWS_MOST + 50
    usage.add(UsageKey(6, "a", "chat", "x"), Used(1), False, 1.0)
    assert len(usage.rows) == ROWS_MOST
    assert sum(one.requests for one in usage.rows.values()) == ROWS_MOST + 51


def test_reasons_are_bounded() -> None:
    """A server may send any."""
    counts = Counts()
    for number in range(50):
        counts.add(Used(finish=f"f{number}"), False, None)
    assert len(counts.finishes) == FINISHES_MOST + 1
    assert counts.finishes["other"] == 50 - FINISHES_MOST


def test_a_forgotten_person_is_counted_with_no_one() -> None:
    """The sums stay."""
    usage = Usage(Kept())
    usage.add(UsageKey(5, "a", "chat", "ada"), Used(1), False, None)
    usage.add(UsageKey(5, "a", "other", "ada"), Used(1), False, None)
    assert usage.forget("chat", "ada") == 1
    assert set(usage.rows) == {UsageKey(5, "a"), UsageKey(5, "a", "other", "ada")}
    assert usage.forget("chat", "ada") == 0


def test_it_comes_back_from_its_file() -> None:
    """As it was."""
    usage = Usage(Kept())
    usage.add(UsageKey(5, "a", "chat", "ada"), Used(3, 1, 0, 2, "stop"), False, 0.5)
    data = msgspec.json.encode(usage.kept())
    again = Usage(msgspec.json.decode(data, type=Kept))
    assert (again.day, again.today, again.rows) == (usage.day, usage.today, usage.rows)
    assert UsageKey(5, "a").id("openai") != UsageKey(5, "a", "b").id("openai")


def test_days_are_kept_for_a_month() -> None:
    """Those that had requests, and the present one; also after a restart."""
    usage = Usage(Kept())
    usage.add(UsageKey(HOURS, "a"), Used(3, 1, 0, 2), False, 0.5)
    usage.add(UsageKey(HOURS * 2, "a"), Used(4), True, None)
    usage.begin(HOURS * 4)
    again = Usage(msgspec.json.decode(msgspec.json.encode(usage.kept()), type=Kept))
    days = [day_of(day, counts) for day, counts in again.by_day()]

    assert [row["at"] for row in days] == [86_400.0, 2 * 86_400.0, 4 * 86_400.0]
    assert [row["requests"] for row in days] == [1, 1, 0]
    assert (days[0]["tokens_in"], days[0]["tokens_out"], days[0]["cost"]) == (3, 2, 0.5)
    assert (days[1]["failures"], days[1]["unpriced"]) == (1, 1)
    again.begin(HOURS * (2 + KEPT_DAYS))
    assert [day for day, _ in again.by_day()] == [2, 2 + KEPT_DAYS]
    assert Usage(msgspec.json.decode(b'{"day": 7}', type=Kept)).days == {}  # of an older release
