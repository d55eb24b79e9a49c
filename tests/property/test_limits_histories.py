"""Any history of messages: no more are admitted than the rates allow, no table outgrows its bound,
and who is within the rate is never refused."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from garrison.workers.services.agent.limits.admission import Admission, Rules, Sent
from garrison.workers.services.agent.limits.buckets import Buckets, Rate

RATES = st.builds(Rate, st.sampled_from([1.0, 6.0, 60.0, 600.0]), st.integers(1, 5))
TIMES = st.floats(0, 100, allow_nan=False)


@given(RATES, st.lists(TIMES, max_size=60))
def test_a_bucket(rate: Rate, history: list[float]) -> None:
    """Between any two moments: at most the burst and what the rate adds. One more than that was
    refused, not two. Times that go back add nothing."""
    buckets = Buckets[str](rate, 10)
    admitted: list[float] = []
    latest = 0.0
    for at in history:
        latest = max(latest, at)
        if buckets.take("a", at):
            admitted.append(latest)
        else:
            recent = [one for one in admitted if one > latest - rate.full_s]
            assert len(recent) >= 1
    for first, begin in enumerate(admitted):
        for last, end in enumerate(admitted[first:], 1):
            assert last <= rate.burst + (end - begin) * rate.per_minute / 60 + 1e-6


@given(RATES, st.integers(1, 40), st.floats(1, 3))
def test_who_keeps_the_rate_is_never_refused(rate: Rate, count: int, slower: float) -> None:
    """Messages at the rate's distance or further apart."""
    buckets = Buckets[str](rate, 10)
    distance = 60 / rate.per_minute * slower * (1 + 1e-9)
    assert all(buckets.take("a", number * distance) for number in range(count))


MESSAGES = st.builds(
    Sent,
    st.sampled_from(["chat", "discord"]),
    st.sampled_from(["", "r", "s"]),
    st.sampled_from(["", "ada", "max", "eve"]),
    st.integers(0, 12).map(str),
)


@given(RATES, RATES, st.lists(st.tuples(TIMES, MESSAGES), max_size=60), st.integers(1, 5))
def test_admission(person: Rate, room: Rate, history: list[tuple[float, Sent]], most: int) -> None:
    """Limits of senders and rooms hold together; a refusal costs nothing; told is at most once per
    quiet period; tables are bounded."""
    generous = Admission(Rules(person, room, quiet=30, most=1000))
    small = Admission(Rules(person, room, quiet=30, most=most))
    latest = 0.0
    admitted: dict[Sent, float] = {}
    told: dict[tuple[str, ...], list[float]] = {}
    for at, message in sorted(history):
        latest = max(latest, at)
        drop = generous.admit(message, at)
        small.admit(message, at)
        if drop is None:
            admitted.setdefault(message, latest)
        else:
            assert message not in admitted
            whose = (drop.cause.value, message.source, message.person)
            if drop.cause.value == "per_room":
                whose = (drop.cause.value, message.source, message.room)
            if drop.notify:
                told.setdefault(whose, []).append(latest)
        for table in (small._persons, small._rooms, small._admitted):
            assert table is not None
            assert len(table) <= most
    for times in told.values():
        assert all(after - before >= 30 for before, after in pairwise(times))
    for name, rate in (("person", person), ("room", room)):
        by_key: dict[tuple[str, str], list[float]] = {}
        for message, at in admitted.items():
            if key := getattr(message, name):
                by_key.setdefault((message.source, key), []).append(at)
        for times in by_key.values():
            for first, begin in enumerate(times):
                for count, end in enumerate(times[first:], 1):
                    assert count <= rate.burst + (end - begin) * rate.per_minute / 60 + 1e-6


@given(RATES, st.lists(st.tuples(TIMES, MESSAGES), max_size=40), st.integers(0, 40))
def test_a_restart_admits_nothing_more(
    rate: Rate, history: list[tuple[float, Sent]], restart: int
) -> None:
    """With the record of what came before, every later message has the same outcome."""
    rules = Rules(per_person=rate, quiet=30)
    whole, before, after = (Admission(rules) for _ in range(3))
    ordered = sorted(history, key=lambda one: one[0])
    seen = {}
    for at, message in ordered[:restart]:
        if message not in seen:  # what is delivered again is found in the record
            whole.admit(message, at)
            seen[message] = (message, at, before.admit(message, at) is None)
    after.restore(seen.values())
    for at, message in ordered[restart:]:
        if message not in seen:
            assert whole.admit(message, at) == after.admit(message, at)
