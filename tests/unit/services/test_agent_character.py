"""The character in the system prompt: all of it, in an order, within a bound."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers import Character, MessageExample, Style
from garrison.workers.services.agent.character_prompt import Situation, compose, is_post
from garrison.workers.services.agent.knowledge import (
    PIECE,
    PIECES_MOST,
    WHOLE,
    is_long,
    pieces,
    recall,
    recall_by_words,
)
from garrison.workers.services.agent.placeholders import fill_names, fill_template

EXAMPLE = [
    MessageExample("{{user1}}", {"text": "Who are you? I am {{user1}}, not {{user2}}."}),
    MessageExample("{{agentName}}", {"text": "I am {{agentName}}, {{user1}}."}),
    MessageExample("Ada", {"text": "", "action": "NONE"}),
]
ADA = Character(
    name="Ada",
    username="ada_l",
    system="You are {{agentName}}, and talk to {{userName}}.",
    bio=["She counts."],
    adjectives=["calm", "exact"],
    topics=["numbers"],
    knowledge=["One and one is two.", {"path": "one.md"}],
    message_examples=[EXAMPLE],
    post_examples=["Two is prime."],
    style=Style(all=["Be brief."], chat=["Ask."], post=["Tell."]),
    extra={"lore": ["Born in a box."]},
)


def test_a_system_text_discards_nothing() -> None:
    """What depends on the message comes last, so that a provider's cache stays valid."""
    text, left_out = compose(
        ADA, Situation(knowledge=ADA.knowledge_texts, provided=" It is noon. ")
    )

    assert left_out == {}
    assert (
        text
        == """You are Ada, and talk to the user.
Your user name is ada_l.

About you:
- She counts.

Your background:
- Born in a box.

You are: calm, exact.

You know about: numbers.

How you write:
- Be brief.
- Ask.

Conversations as an example:

Alex: Who are you? I am Alex, not Robin.
Ada: I am Ada, Alex.

What you know:
- One and one is two.

It is noon."""
    )


def test_a_post_has_its_own_style_and_examples() -> None:
    """A channel of the type FEED or THREAD has posts."""
    text, _ = compose(ADA, Situation(is_post=True))

    assert "- Tell." in text
    assert "Posts of yours as an example:\n- Two is prime." in text
    assert "- Ask." not in text
    assert "Who are you?" not in text
    assert [is_post(kind) for kind in ("FEED", "thread", "DM", "")] == [True, True, False, False]


def test_without_a_system_text_it_is_told_its_name() -> None:
    """Also where its own text lacks it."""
    assert compose(Character(name="Ada"), Situation()).text == "You are Ada."
    text = compose(Character(name="Ada", system="You count."), Situation()).text
    assert text == "You count.\nYour name is Ada."


def test_a_template_is_filled_in_and_shown_last() -> None:
    """The platform's own first; without a value a placeholder becomes nothing."""
    templates = {
        "messageHandlerTemplate": "{{agentName}}: {{bio}} {{#if x}}{{providers}}{{/if}}{{x.y}}!",
        "discordMessageHandlerTemplate": "On discord, {{senderName}} said {{{currentMessage}}}.",
        "twitterPostTemplate": "Post it.",
    }
    ada = Character(name="Ada", bio=["Counts."], templates=templates)
    values = {"currentmessage": "hi {{agentName}}"}

    text = compose(ada, Situation(provided="Noon.", values=values)).text
    assert text.endswith("Ada: About you:\n- Counts. Noon.!\n\nNoon.")
    discord = Situation(source="ada.discord-2", user="Bob", values=values)
    assert compose(ada, discord).text.endswith("On discord, Bob said hi {{agentName}}.")
    assert compose(ada, Situation(is_post=True)).text == "You are Ada.\n\nAbout you:\n- Counts."
    post = Situation(is_post=True, source="twitter")
    assert compose(ada, post).text.endswith("\n\nPost it.")


def test_what_is_too_long_is_left_out_in_an_order() -> None:
    """Examples first, then knowledge, lore, topics, adjectives, bio; the last lines of each. The
    system text, the style and the template stay."""
    long = Character(
        name="Ada",
        system="S" * 100,
        bio=["b" * 50] * 4,
        topics=["t" * 50] * 4,
        style=Style(all=["w" * 100]),
        post_examples=["p" * 50] * 4,
        message_examples=[[MessageExample("Ada", {"text": "m" * 50})]] * 4,
        extra={"lore": ["l" * 50] * 4},
    )
    knowledge = ["k" * 50] * 4

    total = {"examples": 4, "knowledge": 4, "lore": 4, "topics": 4, "adjectives": 0, "bio": 4}
    seen = set[str]()
    for most in range(2_000, -1, -50):
        text, left_out = compose(long, Situation(knowledge=knowledge, most=most))
        assert "S" * 100 in text
        assert "w" * 100 in text
        assert len(text) <= most or left_out == {k: n for k, n in total.items() if n}
        seen |= set(left_out)
        for before, after in pairwise(total):
            assert after not in left_out or left_out.get(before, 0) == total[before]
    assert compose(long, Situation(knowledge=knowledge)).left_out == {}
    assert seen == set(total) - {"adjectives"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{agentName}} {{ agent }} {{char}} {{name}}", "Ada Ada Ada Ada"),
        ("{{user}} and {{userName}}", "Bob and Bob"),
        ("{{user1}} {{name2}} {{User6}}", "Alex Robin Alex"),
        ("{{time}} {{}} {x} {{user", "{{time}} {{}} {x} {{user"),
    ],
)
def test_placeholders_of_names(text: str, expected: str) -> None:
    """Unknown ones stay; a user of an example is never the agent's namesake."""
    assert fill_names(text, "Ada", "Bob") == expected
    assert fill_names("{{user1}}", "Alex") == "Robin"


@given(st.text(st.sampled_from("{} #/^!a1.\n"), max_size=40))
def test_any_template_is_filled_in(template: str) -> None:
    """Whatever braces it has."""
    assert isinstance(fill_template(template, {"a": "x"}, "Ada"), str)


# --- knowledge ----------------------------------------------------------------------------


@given(st.lists(st.text(st.sampled_from("ab. \n"), max_size=3000), max_size=4))
def test_pieces_lose_nothing_but_spaces(texts: list[str]) -> None:
    """Each one is short."""
    found = pieces(texts)
    assert "".join("".join(found).split()) == "".join("".join(texts).split())
    assert all(0 < len(one) <= PIECE for one in found)


def test_the_number_of_pieces_is_bounded() -> None:
    """The rest is left out."""
    assert len(pieces(["x" * PIECE * (PIECES_MOST + 5)])) == PIECES_MOST


def test_the_nearest_pieces_are_recalled_in_their_order() -> None:
    """As many as fit."""
    found = [letter * (WHOLE // 2) for letter in "abc"]
    vectors = [[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]]
    assert recall(found, vectors, [1.0, 0.0]) == [found[0], found[2]]
    assert not is_long(found[:2])
    assert is_long(found)


def test_recall_by_words_needs_no_model() -> None:
    """Pieces that share words come first."""
    found = [f"{'filler ' * 80} number {number}" for number in range(20)]
    found.append("The penguin is a bird.")
    assert "The penguin is a bird." in recall_by_words(found, "what is a penguin?")
