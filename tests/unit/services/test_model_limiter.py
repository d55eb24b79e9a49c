"""Limits on requests and tokens, and what is counted."""

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.model_support.limiter import Bucket, Limiter, Refusal, estimate


def test_requests_per_minute() -> None:
    """As many at once, then one for each part of a minute."""
    limiter = Limiter(rpm=2)
    admitted = [limiter.admit(1, 100.0, 0, 9.0) for _ in range(3)]

    assert admitted == [None, None, Refusal("rpm", 30.0)]
    assert limiter.admit(1, 130.0, 0, 9.0) is None


def test_tokens_are_reserved_and_settled() -> None:
    """What a request did not use is there for the next one; what it used beyond is waited for."""
    limiter = Limiter(tpm=600)
    assert limiter.admit(600, 0.0, 0, 9.0) is None
    assert limiter.admit(100, 0.0, 0, 9.0) == Refusal("tpm", 10.0)
    limiter.settle(600, 100, 0.0, 0)
    assert limiter.admit(100, 0.0, 0, 9.0) is None
    limiter.settle(100, 700, 0.0, 0)
    assert limiter.admit(100, 0.0, 0, 9.0) == Refusal("tpm", 30.0)


def test_a_request_larger_than_the_limit_is_made_when_nothing_else_is() -> None:
    """It would wait forever otherwise."""
    limiter = Limiter(tpm=60)

    assert limiter.admit(1000, 0.0, 0, 9.0) is None
    assert limiter.admit(1000, 0.0, 0, 9.0) == Refusal("tpm", 1000.0)


def test_the_budget_of_a_day() -> None:
    """What runs counts with its estimate; a new day has a new one, an earlier day has not."""
    limiter = Limiter(budget_per_day=100, spent=50, day=7)
    assert limiter.budget.left == 50
    assert limiter.admit(60, 0.0, 7, 9.0) is None
    assert limiter.admit(1, 0.0, 7, 9.0) == Refusal("budget_per_day", 9.0)
    limiter.settle(60, 10, 0.0, 7)
    assert (limiter.budget.left, limiter.admit(1, 0.0, 7, 9.0)) == (40, None)
    limiter.settle(1, 40, 0.0, 7)
    assert limiter.admit(1, 0.0, 6, 9.0) == Refusal("budget_per_day", 9.0)
    assert limiter.admit(1, 0.0, 8, 9.0) is None
    assert Limiter().budget.left is None


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=40))
def test_no_minute_has_more_than_two_bucketfuls(steps: list[tuple[float, int]]) -> None:
    """One that was full, and what flows in."""
    bucket, now, taken = Bucket(60), 0.0, list[tuple[float, int]]()
    for wait, amount in steps:
        now += wait
        if bucket.wait(amount, now) == 0:
            bucket.take(amount, now)
            taken.append((now, amount))

    for at, _ in taken:
        assert sum(amount for when, amount in taken if at <= when < at + 60) <= 120


def test_an_estimate_counts_all_that_may_be_written() -> None:
    """A request is never thought cheaper than it can be, about."""
    assert estimate(400, 100) == 201
