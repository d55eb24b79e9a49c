"""Which messages are admitted: rates of senders and rooms, blocked ids, redeliveries, restarts."""

import pytest

from garrison.workers import Refusal
from garrison.workers.services.agent.limits.admission import Admission, Cause, Drop, Rules, Sent
from garrison.workers.services.agent.limits.age import age_of
from garrison.workers.services.agent.limits.buckets import Buckets, Rate
from garrison.workers.services.agent.limits.gates import Gated, OnFailure, Verdict, verdict

TOLD, QUIET = Drop(Cause.PERSON, True), Drop(Cause.PERSON)
ROOM_TOLD, ROOM_QUIET = Drop(Cause.ROOM, True), Drop(Cause.ROOM)
BLOCKED = Drop(Cause.BLOCKED)
NOW = 1_790_000_000.0
TWO = Rate(per_minute=60, burst=2)  # one a second, after two


def sent(number: int, person: str = "ada", room: str = "r", source: str = "chat") -> Sent:
    """Return a message with an id of its own."""
    return Sent(source, room, person, str(number))


def outcomes(admission: Admission, *messages: tuple[float, Sent]) -> list[Drop | None]:
    """Return what becomes of messages, each with the time at which it was sent."""
    return [admission.admit(message, at) for at, message in messages]


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([0, 0, 0, 0], [True, True, False, False]),
        ([0, 0, 0.5, 1, 1, 2], [True, True, False, True, False, True]),
        ([0, 0, 100, 100, 100], [True, True, True, True, False]),  # never more than full
        ([10, 0, 5, 11], [True, True, False, True]),  # earlier ones count at the later time
        ([0, 0.5, 1, 1.5], [True, True, True, False]),
    ],
)
def test_a_bucket_admits_its_burst_and_its_rate(history: list[float], expected: list[bool]) -> None:
    """Time never runs backwards in it."""
    buckets = Buckets[str](TWO, 10)
    assert [buckets.take("a", at) for at in history] == expected
    assert buckets.take("b", 0)


def test_at_its_bound_a_table_forgets_the_key_that_was_used_longest_ago() -> None:
    """A refusal is a use: who goes on sending is not forgotten."""
    buckets = Buckets[str](TWO, 2)
    for _ in range(3):
        buckets.take("flooder", 0)
        buckets.take("other", 0)
    buckets.take("flooder", 0)
    buckets.take("third", 0)

    assert len(buckets) == 2
    assert not buckets.take("flooder", 0)
    assert buckets.take("other", 0)


def test_a_sender_in_excess_is_told_once() -> None:
    """And again after a while without excess. Admitted messages meanwhile do not count as quiet."""
    admission = Admission(Rules(per_person=TWO, quiet=10))
    history = [(at, sent(number)) for number, at in enumerate([0, 0, 0, 0, 1, 9, 9, 9, 19, 19, 19])]

    assert outcomes(admission, *history) == [
        *(None, None, TOLD, QUIET),  # 0 s
        None,  # 1 s
        *(None, None, QUIET),  # 9 s
        *(None, None, TOLD),  # 19 s
    ]


def test_a_sender_has_one_rate_in_all_rooms_of_a_source() -> None:
    """The same id on another platform is another person. An unknown sender has no rate."""
    admission = Admission(Rules(per_person=TWO))

    assert outcomes(
        admission,
        (0, sent(1, room="a")),
        (0, sent(2, room="b")),
        (0, sent(3, room="c")),
        (0, sent(4, source="discord")),
        *((0, sent(number, person="")) for number in range(5, 10)),
    ) == [None, None, TOLD, None, *[None] * 5]


def test_a_room_has_a_rate_whoever_sends() -> None:
    """A sender in excess takes nothing of it; a message without a room has none."""
    admission = Admission(Rules(per_person=TWO, per_room=Rate(60, 3)))

    assert outcomes(
        admission,
        *((0, sent(number)) for number in range(2)),
        (0, sent(2, "max")),
        (0, sent(3, "eve")),
        (0, sent(4, "eve")),
        (0, sent(5, "eve", room="")),
        (0, sent(6, "eve", room="")),
    ) == [None, None, None, ROOM_TOLD, ROOM_QUIET, None, None]


def test_a_message_that_the_room_refuses_costs_its_sender_nothing() -> None:
    """He may send it elsewhere."""
    admission = Admission(Rules(per_person=TWO, per_room=Rate(1, 1)))

    assert outcomes(
        admission,
        (0, sent(1, "max", room="full")),
        *((0, sent(number, room="full")) for number in range(2, 5)),
        (0, sent(5, room="a")),
        (0, sent(6, room="b")),
    ) == [None, ROOM_TOLD, ROOM_QUIET, ROOM_QUIET, None, None]


def test_many_senders_do_not_make_the_agent_flood_a_room() -> None:
    """What each is told counts in the room's rate."""
    admission = Admission(Rules(per_person=Rate(1, 1), per_room=Rate(1, 6)))
    floods = [(0.0, sent(n * 10 + k, f"p{n}")) for k in range(2) for n in range(5)]

    told = [drop for drop in outcomes(admission, *floods) if drop is not None and drop.notify]
    assert len(told) == 1


@pytest.mark.parametrize("blocked", ["ada", "r", "chat/ada", "chat/r"])
def test_blocked_senders_and_rooms_are_dropped_in_silence(blocked: str) -> None:
    """Everywhere, or with the NAME of a platform there alone."""
    admission = Admission(Rules(block=frozenset({blocked})))

    everywhere = "/" not in blocked
    assert outcomes(admission, (0, sent(1)), (0, sent(2, "max", "q"))) == [BLOCKED, None]
    assert admission.admit(sent(3, source="discord"), 0) == (BLOCKED if everywhere else None)
    assert admission.admit(sent(4, "", ""), 0) is None


def test_a_message_that_is_delivered_again_is_not_counted_again() -> None:
    """One that was dropped is."""
    admission = Admission(Rules(per_person=TWO))
    again = [(0.0, sent(1))] * 3

    assert outcomes(admission, *again, (0, sent(2)), (0, sent(3)), *again) == [
        *(None, None, None),
        *(None, TOLD),
        *(None, None, None),
    ]


def test_admitted_messages_are_remembered_up_to_a_bound() -> None:
    """What is delivered again after that counts again."""
    admission = Admission(Rules(per_person=Rate(1, 10), most=2))
    outcomes(admission, *((0, sent(number)) for number in range(9)))

    assert outcomes(admission, (0, sent(8)), (0, sent(7)), (0, sent(0)), (0, sent(1))) == [
        *(None, None, None, TOLD),
    ]


def test_a_restart_refills_nothing() -> None:
    """What the record has of the time before counts, and who was told is not told again."""
    before, after = (Admission(Rules(per_person=TWO, quiet=10)) for _ in range(2))
    history = [(0.0, sent(number)) for number in range(3)]
    results = outcomes(before, *history)
    after.restore(
        [(message, at, drop is None) for (at, message), drop in zip(history, results, strict=True)]
    )

    assert outcomes(after, (0, sent(1)), (0, sent(5)), (1, sent(6))) == [None, QUIET, None]


@pytest.mark.parametrize(
    ("rules", "seconds"),
    [
        (Rules(), 0),
        (Rules(per_person=Rate(6, 2)), 60),
        (Rules(per_person=Rate(6, 20), per_room=Rate(1, 1)), 200),
        (Rules(per_room=Rate(1, 10)), 600),
    ],
)
def test_older_messages_change_nothing(rules: Rules, seconds: float) -> None:
    """Every bucket is full by then, and everyone who was told has been quiet."""
    assert Admission(rules).horizon == seconds


def test_ids_of_any_length_and_form_are_kept_apart() -> None:
    """Also where one is the beginning of another; a key's size does not depend on it."""
    admission = Admission(Rules(per_person=Rate(1, 1)))
    people = [("a", "bc"), ("ab", "c"), ("", "abc"), ("a", "\udc80"), ("a", "x" * 100_000)]

    assert [
        admission.admit(Sent(source, "", person, str(number)), 0)
        for number, (source, person) in enumerate(people)
    ] == [None] * len(people)


SPAM, PASSED = Refusal("Not here.", "spam"), Gated("calm")
LATE = Gated("slow", problem="guard.gate: no answer within 5 s")


@pytest.mark.parametrize(
    ("gated", "on_failure", "expected"),
    [
        ([], "pass", Verdict()),
        ([], "refuse", Verdict()),
        ([PASSED, PASSED], "refuse", Verdict()),
        ([PASSED, Gated("guard", SPAM)], "pass", Verdict("guard", "Not here.", "spam")),
        ([Gated("a", Refusal()), Gated("b", SPAM)], "pass", Verdict("a", "")),
    ],
)
def test_the_first_gate_that_refuses_decides(
    gated: list[Gated], on_failure: OnFailure, expected: Verdict
) -> None:
    """In config order, whichever answered first. Without a gate everything passes."""
    assert verdict(gated, on_failure) == expected


@pytest.mark.parametrize(
    ("gated", "on_failure", "refused_by", "text"),
    [
        ([LATE, PASSED], "pass", "", None),
        ([LATE, PASSED], "refuse", "slow", None),
        ([LATE, Gated("guard", SPAM)], "pass", "guard", "Not here."),
        ([LATE, Gated("guard", SPAM)], "refuse", "guard", "Not here."),
    ],
)
def test_the_config_says_what_a_failed_gate_means(
    gated: list[Gated], on_failure: OnFailure, refused_by: str, text: str | None
) -> None:
    """The problem is reported either way; a gate's own refusal counts for more."""
    result = verdict(gated, on_failure)

    assert (result.refused_by, result.text) == (refused_by, text)
    assert result.problems == {"slow": "guard.gate: no answer within 5 s"}


@pytest.mark.parametrize(
    ("created_at", "waited", "expected"),
    [
        (NOW, 0.0, 0.0),
        (NOW - 600, 0.0, 600.0),
        (NOW - 600, 400.0, 1_000.0),  # it waited in the agent
        (NOW + 300, 10.0, 10.0),  # the platform's clock is ahead
        (0.0, 10.0, 10.0),  # unknown
        (86_400.0, 10.0, 10.0),  # seconds since its boot
        (float("nan"), 10.0, 10.0),
    ],
)
def test_a_message_is_as_old_as_its_platform_says_and_ages_while_it_waits(
    created_at: float, waited: float, expected: float
) -> None:
    """By the monotonic clock: setting the wall clock meanwhile changes nothing."""
    age = age_of(created_at, NOW, 50.0)

    assert age.at(50.0 + waited) == expected
    assert age.is_over(900, 50.0 + waited) == (expected > 900)
    assert not age.is_over(0, 50.0 + waited)


def test_a_forgotten_sender_begins_anew() -> None:
    """Nothing of what they sent is left in the tables."""
    admission = Admission(Rules(per_person=TWO))
    history = [(0, sent(number)) for number in range(3)]
    assert outcomes(admission, *history) == [None, None, TOLD]

    admission.forget("telegram", history[0][1].person)
    assert outcomes(admission, (0, sent(3))) == [QUIET]
    admission.forget(history[0][1].source, history[0][1].person)
    assert outcomes(admission, (0, sent(4))) == [None]
