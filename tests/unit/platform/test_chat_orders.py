"""Orders that operators give in the chat: their words, and their confirmation."""

from typing import Any

import msgspec
import pytest

from garrison.workers.platform import chat_orders
from garrison.workers.platform.chat_orders import (
    ChatOrder,
    Question,
    Questions,
    Verb,
    code_of,
    is_order,
    parse,
)

RESTART = ChatOrder(Verb.RESTART, "discord")
AT = (1000.0, "boot", 50.0)


def after(seconds: float) -> tuple[float, str, float]:
    """Return the clocks after a time."""
    return (AT[0] + seconds, AT[1], AT[2] + seconds)


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("/services", ChatOrder(Verb.SERVICES)),
        ("!services", ChatOrder(Verb.SERVICES)),
        (" /Restart  discord\n", RESTART),
        ("/restart@my_bot discord", RESTART),
        ("@Bot /restart discord", RESTART),
        ("<@123> /restart discord", RESTART),
        ("/why ada.discord", ChatOrder(Verb.WHY, "ada.discord")),
        ("/yes", ChatOrder(Verb.YES)),
        ("/no abc123", ChatOrder(Verb.NO, "abc123")),
        ("services", None),
        ("please /restart discord", None),
        ("/restarts discord", None),
        ("/", None),
        ("", None),
        ("//services", None),
    ],
)
def test_words_of_an_order(text: str, order: ChatOrder | None) -> None:
    """A slash or an exclamation mark, also after a mention or with the bot's name."""
    assert parse(text) == order


@pytest.mark.parametrize(
    "text",
    ["/restart", "/restart a b", "/why did it say that", f"/logs {'x' * 201}", "/services x"],
)
def test_an_order_that_is_not_whole_says_what_to_write(text: str) -> None:
    """It is not carried out."""
    order = parse(text)

    assert order is not None
    assert order.problem.startswith(f"Write /{order.verb}")


@pytest.mark.parametrize(
    ("person", "text", "operators", "is_one"),
    [
        ("ada", "/services", ["ada"], True),
        ("bob", "/services", ["ada"], False),
        ("ada", "hello", ["ada"], False),
        ("", "/services", [""], False),
        ("ada", "/services", [], False),
    ],
)
def test_only_those_on_the_list_give_orders(
    person: str, text: str, operators: list[str], is_one: bool
) -> None:
    """A message without a sender is never one."""
    assert is_order(person, text, operators) is is_one


def asked(message: str = "m1", person: str = "ada", channel: str = "c") -> Questions:
    """Return questions of which one waits."""
    questions = Questions()
    questions.ask(message, person, channel, RESTART, AT)
    return questions


@pytest.mark.parametrize(
    ("person", "channel", "code", "seconds", "confirmed"),
    [
        ("ada", "c", "", 5.0, True),
        ("ada", "c", code_of("m1"), 59.0, True),
        ("ada", "c", "", 61.0, False),
        ("ada", "c", "other", 5.0, False),
        ("bob", "c", "", 5.0, False),
        ("ada", "d", "", 5.0, False),
    ],
)
def test_a_confirmation_is_of_the_same_person_in_the_same_channel(
    person: str, channel: str, code: str, seconds: float, confirmed: bool
) -> None:
    """Within 60 s."""
    found = asked().confirm("m2", person, channel, code, after(seconds))

    assert (found is not None) is confirmed


def test_a_confirmation_counts_once_and_is_the_same_when_it_is_received_again() -> None:
    """Also long after: what it confirmed was perhaps not done."""
    questions = asked()
    first = questions.confirm("m2", "ada", "c", "", after(5))
    again = msgspec.json.decode(msgspec.json.encode(questions), type=Questions)

    assert first is not None
    assert again.confirm("m2", "ada", "c", "", after(5000)) == first
    assert questions.confirm("m3", "ada", "c", "", after(6)) is None


def test_an_order_that_is_received_again_asks_the_same() -> None:
    """Its question is not open again once it was answered."""
    questions = asked()
    questions.confirm("m2", "ada", "c", "", after(5))

    assert questions.ask("m1", "ada", "c", RESTART, after(9)) == code_of("m1")
    assert questions.confirm("m3", "ada", "c", "", after(9)) is None


def test_a_word_without_a_code_is_about_the_last_question() -> None:
    """A button has the code of its own one."""
    questions = asked()
    questions.ask("m2", "ada", "c", ChatOrder(Verb.PAUSE, "telegram"), AT)
    last = questions.confirm("m3", "ada", "c", "", after(1))
    first = questions.confirm("m4", "ada", "c", code_of("m1"), after(1))

    assert [one and one.name for one in (last, first)] == ["telegram", "discord"]


def test_a_refused_order_is_gone() -> None:
    """It cannot be confirmed later."""
    questions = asked()

    assert not questions.drop("m2", "bob", "c", "")
    assert questions.drop("m2", "ada", "c", "")
    assert questions.confirm("m3", "ada", "c", "", after(1)) is None


def test_questions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten."""
    monkeypatch.setattr(chat_orders, "WAITING_MOST", 2)
    questions = asked()
    for number in range(2, 5):
        questions.ask(f"m{number}", "ada", "c", RESTART, AT)

    assert [one.code for one in questions.waiting] == [code_of("m3"), code_of("m4")]


def test_questions_are_forgotten_after_a_day() -> None:
    """Whose they are is not kept longer."""
    questions = asked()
    questions.ask("m2", "bob", "c", RESTART, after(86_401))

    assert [one.person for one in questions.waiting] == ["bob"]


def test_a_question_outlasts_its_process() -> None:
    """It is stored as JSON."""
    made: Any = msgspec.json.decode(msgspec.json.encode(asked().waiting[0]), type=Question)

    assert made == asked().waiting[0]
