"""What follows from each error of a provider: the next one, the same one, or the end."""

import pytest

from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    InvalidCall,
    Overloaded,
    RemoteError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers import Busy, GenerateTextParams, ModelError, ModelUnavailable, RetryLater
from garrison.workers.agents.cooling import Cooling
from garrison.workers.agents.fallback import HANGS_AFTER_S, LOSSES, ModelFallback, Then, then
from garrison.workers.agents.models import Offer

LARGE = "TEXT_LARGE"
LONG = GenerateTextParams(messages=[{"role": "user", "content": str(n)} for n in range(4)])
UNKNOWN = RemoteError("a", "$model", "ValueError: no")


def offer(name: str, priority: int, running: bool = True, coming: bool = True) -> Offer:
    """Return an offer."""
    token = name.encode() if running else b""
    return Offer(name, "p", f"type-{name}", priority, False, running, coming, token)


THREE = [offer("a", 3), offer("b", 2), offer("c", 1)]


def asked(
    answers: dict[str, list[CallError]],
    *,
    cooling: Cooling | None = None,
    offers: list[Offer] | None = None,
    now: float = 0.0,
    waits: float = 0.0,
    fallback: bool = True,
    provider: str | None = None,
) -> tuple[list[str], str, dict[str, CallError]]:
    """Make one request; return who was asked, who answered, and the errors where nobody did.

    Args:
        answers: NAME to its errors, one after the other; then it answers.
        cooling: The providers that are passed over.
        offers: Those there are.
        now: When.
        waits: How long each takes to fail.
        fallback: As for `use_model`.
        provider: Likewise.
    """
    listed = [(LARGE, one) for one in (THREE if offers is None else offers)]
    left = {name: list(errors) for name, errors in answers.items()}
    asking = ModelFallback(
        lambda: listed, LARGE, provider, LONG, cooling or Cooling(), fallback=fallback
    )
    names: list[str] = []
    while True:
        try:
            attempt = asking.next(now)
        except ModelUnavailable as error:
            return names, "", error.errors
        name = attempt.offer.service
        names.append(name)
        errors = left.get(name)
        now += waits
        if not errors:
            asking.answered(attempt)
            asking.end()
            return names, name, {}
        asking.failed(attempt, errors.pop(0), now)
        asking.end()


@pytest.mark.parametrize(
    ("error", "waited", "follows"),
    [
        (ModelError("busy"), 0, Then.COOL),
        (ModelError("auth"), 0, Then.COOL),
        (ModelError("refused"), 0, Then.NEXT_ONCE),
        (ModelError("context"), 0, Then.SHORTEN),
        (ModelError("invalid"), 0, Then.END),
        (UNKNOWN, 0, Then.COOL),
        (Busy(), 0, Then.COOL),
        (RetryLater(3), 0, Then.COOL),
        (CallTimeout("a", "m", "1"), 1, Then.NEXT),
        (CallTimeout("a", "m", "60"), HANGS_AFTER_S, Then.COOL),
        (ServiceLost("a", "m", "killed"), 0, Then.AGAIN),
        (ServiceUnavailable("a", "m", "stopped"), 0, Then.NEXT),
        (Overloaded("a", "m", "full"), 0, Then.NEXT),
        (InvalidCall("a", "m", "no such method"), 0, Then.END),
        (CallError("a", "m", "of a later release"), 0, Then.NEXT),
    ],
)
def test_what_follows_from_each_error(error: CallError, waited: float, follows: Then) -> None:
    """The provider's fault, the request's, or that of neither."""
    assert then(error, waited) is follows


@pytest.mark.parametrize(
    ("errors", "names", "answered"),
    [
        ({}, "a", "a"),
        ({"a": [ModelError("busy")]}, "a b", "b"),
        ({"a": [ModelError("auth")], "b": [UNKNOWN]}, "a b c", "c"),
        ({"a": [ModelError("refused")]}, "a b", "b"),
        ({"a": [ModelError("refused")], "b": [ModelError("refused")]}, "a b", ""),
        ({"a": [ModelError("refused")], "b": [ModelError("busy")]}, "a b c", "c"),
        ({"a": [ModelError("context")]}, "a a", "a"),
        ({"a": [ModelError("context")] * 2}, "a a b", "b"),
        ({"a": [ModelError("context")] * 2, "b": [ModelError("context")]}, "a a b c", "c"),
        ({"a": [ModelError("invalid")]}, "a", ""),
        ({"a": [ModelError("busy")], "b": [ModelError("invalid")]}, "a b", ""),
        ({"a": [CallTimeout("a", "m", "1")]}, "a b", "b"),
        ({"a": [ServiceLost("a", "m", "x")] * (LOSSES - 1)}, "a a a", "a"),
        ({"a": [ServiceLost("a", "m", "x")] * LOSSES}, "a a a b", "b"),
        ({"a": [ServiceUnavailable("a", "m", "stopped")]}, "a b", "b"),
        ({"a": [InvalidCall("a", "m", "x")]}, "a", ""),
        ({"a": [UNKNOWN], "b": [UNKNOWN], "c": [UNKNOWN]}, "a b c", ""),
    ],
)
def test_who_is_asked(errors: dict[str, list[CallError]], names: str, answered: str) -> None:
    """In the order of their priorities; where none answers, each one's last error is there."""
    got, who, failed = asked(errors)

    assert (" ".join(got), who) == (names, answered)
    if not answered:
        assert failed == {name: errors[name][-1] for name in dict.fromkeys(got)}


@pytest.mark.parametrize(
    ("error", "cools"),
    [
        (ModelError("busy", 30), True),
        (ModelError("auth"), True),
        (UNKNOWN, True),
        (ModelError("refused"), False),
        (ModelError("context"), False),
        (ModelError("invalid"), False),
        (CallTimeout("a", "m", "1"), False),
        (ServiceLost("a", "m", "x"), False),
        (ServiceUnavailable("a", "m", "stopped"), False),
        (Overloaded("a", "m", "full"), False),
    ],
)
def test_the_fault_of_a_request_mutes_no_model(error: CallError, cools: bool) -> None:
    """The next request goes past a provider that failed, and back to it in time."""
    cooling = Cooling()
    asked({"a": [error] * 3}, cooling=cooling)

    assert asked({}, cooling=cooling, now=0.5)[0] == (["b"] if cools else ["a"])
    assert asked({}, cooling=cooling, now=30)[0] == ["a"]


def test_a_provider_that_hangs_is_passed_over() -> None:
    """If it had time to answer: an impatient caller says nothing about it."""
    for waits, next_one in ((HANGS_AFTER_S, "b"), (HANGS_AFTER_S / 2, "a")):
        cooling, hung = Cooling(), CallTimeout("a", "m", "x")
        assert asked({"a": [hung]}, cooling=cooling, waits=waits)[1] == "b"
        assert asked({}, cooling=cooling, now=waits)[1] == next_one


def test_an_error_that_no_provider_declared_mutes_no_model() -> None:
    """It may be this request's fault, so where no other is left the provider is asked all the
    same; one that says when to come back is not."""
    alone = [offer("a", 3)]
    cooling = Cooling()
    assert asked({"a": [UNKNOWN]}, cooling=cooling, offers=alone) == (["a"], "", {"a": UNKNOWN})
    assert asked({}, cooling=cooling, offers=alone)[1] == "a"

    busy = ModelError("busy", 30)
    assert asked({"a": [busy]}, cooling=cooling, offers=alone) == (["a"], "", {"a": busy})
    assert asked({}, cooling=cooling, offers=alone, now=29) == ([], "", {"a": busy})
    assert asked({}, cooling=cooling, offers=alone, now=30)[1] == "a"


def test_the_request_s_fault_shows_that_a_provider_answers_again() -> None:
    """A probe that is refused for its content has reached the model."""
    cooling = Cooling()
    asked({"a": [ModelError("busy", 5)]}, cooling=cooling)

    assert asked({"a": [ModelError("refused")]}, cooling=cooling, now=5)[0] == ["a", "b"]
    assert asked({"a": [ModelError("busy")]}, cooling=cooling, now=5)[0] == ["a", "b"]
    assert asked({}, cooling=cooling, now=6)[0] == ["a"]  # the first failure in a row again


def test_the_text_says_what_each_provider_said() -> None:
    """Those that were passed over, too, and for how long."""
    cooling = Cooling()
    offers = [(LARGE, one) for one in THREE[:2]]
    asked({"a": [ModelError("busy", 30, "429")]}, cooling=cooling)
    asking = ModelFallback(lambda: offers, LARGE, None, LONG, cooling)
    asking.failed(asking.next(10), UNKNOWN, 10)

    with pytest.raises(ModelUnavailable) as caught:
        asking.next(10)
    assert str(caught.value) == (
        "no model TEXT_LARGE: b: ValueError: no; "
        "a: passed over for 20 s: busy, retry after 30 s: 429"
    )


def test_an_answer_names_those_before_it_that_were_passed_over() -> None:
    """Not those that come after it, and not itself where it is asked in spite of a failure."""
    cooling = Cooling()
    offers = [(LARGE, one) for one in THREE]
    asked({"a": [ModelError("busy", 30, "429")]}, cooling=cooling)
    asked({"b": [], "c": [UNKNOWN]}, cooling=cooling, offers=THREE[2:])
    asking = ModelFallback(lambda: offers, LARGE, None, LONG, cooling)
    attempt = asking.next(10)

    assert attempt.offer.service == "b"
    assert asking.passed_over(attempt) == {
        "a": "passed over for 20 s: busy, retry after 30 s: 429",
    }
    only = ModelFallback(lambda: offers, LARGE, None, LONG, cooling, fallback=False)
    assert only.passed_over(only.next(10)) == {}


def test_without_fallback_only_the_first_provider_is_asked() -> None:
    """Whatever it answered before, and also where it does not run. Its process's end is no answer,
    and a text that was too long is shortened."""
    cooling = Cooling()
    busy = ModelError("busy", 30)
    for _ in range(2):
        answers: dict[str, list[CallError]] = {"a": [busy]}
        assert asked(answers, cooling=cooling, fallback=False) == (["a"], "", {"a": busy})
    assert asked({"a": [ModelError("context")]}, fallback=False)[0] == ["a", "a"]
    assert asked({"a": [ServiceLost("a", "m", "x")]}, fallback=False)[0] == ["a", "a"]
    away = [offer("a", 3, running=False, coming=False), offer("b", 2)]
    assert asked({}, offers=away, fallback=False) == ([], "", {})
    assert asked({}, offers=away)[1] == "b"
    assert asked({}, fallback=False, provider="c")[0] == ["c"]


def test_the_shortened_text_is_asked_with() -> None:
    """By the same provider and by those that follow."""
    offers = [(LARGE, one) for one in THREE]
    asking = ModelFallback(lambda: offers, LARGE, None, LONG, Cooling())
    lengths = []
    for _ in range(3):
        attempt = asking.next(0)
        lengths.append((attempt.offer.service, len(attempt.params.messages)))
        asking.failed(attempt, ModelError("context"), 0)

    assert lengths == [("a", 4), ("a", 2), ("b", 2)]


def test_one_probe_at_a_time() -> None:
    """Other requests go past the provider meanwhile; a probe that is left makes room."""
    cooling, offers = Cooling(), [(LARGE, one) for one in THREE]
    asked({"a": [ModelError("busy", 5)]}, cooling=cooling)

    def ask() -> ModelFallback:
        return ModelFallback(lambda: offers, LARGE, None, LONG, cooling)

    probe, other, later = ask(), ask(), ask()
    assert probe.next(5).offer.service == "a"
    assert other.next(5).offer.service == "b"
    probe.end()
    assert later.next(5).offer.service == "a"
