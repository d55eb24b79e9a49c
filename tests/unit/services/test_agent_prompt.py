"""What a model is asked: the conversation, who the agent is, how long."""

from typing import Any

import pytest

from garrison.workers import Character, Content, Media, Memory, MessageExample, Style
from garrison.workers.services.agent.prompt import (
    Sampling,
    messages,
    params,
    sampling,
    system,
)

ME = "agent"


def message(by: str, text: str, **more: Any) -> Memory:
    """Return a message."""
    return Memory(content=Content(text, **more.pop("content", {})), entity_id=by, **more)


def test_the_agents_own_messages_are_the_assistants() -> None:
    """A conversation begins with somebody else; what has no words is left out."""
    conversation = [
        message(ME, "Welcome."),
        message("1", "Hi"),
        message("1", ""),
        message(ME, "Hello."),
    ]

    assert messages(conversation, ME) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]


@pytest.mark.parametrize("key", ["entity_name", "entityName", "username", "name"])
def test_several_people_are_told_apart_by_their_names(key: str) -> None:
    """One alone needs none."""
    ada = message("1", "Hi", metadata={key: "Ada"})
    bob = message("2", "Ho", metadata={key: "Bob"})
    nameless = message("3", "Ha")

    assert [one["content"] for one in messages([ada, ada], ME)] == ["Hi", "Hi"]
    assert [one["content"] for one in messages([ada, bob, nameless], ME)] == [
        "Ada: Hi",
        "Bob: Ho",
        "Ha",
    ]


def test_what_is_attached_is_told() -> None:
    """A picture without a word is a message, too."""
    picture = message("1", "", content={"attachments": [Media("http://x/1", description="A cat")]})

    assert messages([picture], ME) == [{"role": "user", "content": "[attached: A cat]"}]


def test_a_characters_own_system_goes_before_what_is_made() -> None:
    """Its placeholders are its name; style and what providers told follow."""
    character = Character(
        name="Ada",
        system="You are {{agentName}}.",
        bio=["She counts."],
        style=Style(all=["Be brief."], chat=["Ask."], post=["Never here."]),
    )

    text = system(character, " It is noon. ")
    assert text == "You are Ada.\n\nHow you write:\n- Be brief.\n- Ask.\n\nIt is noon."


def test_a_system_is_made_of_what_a_character_has() -> None:
    """Name, bio, adjectives, topics, style, a few conversations."""
    example = [
        MessageExample("{{user1}}", {"text": "Who are you?"}),
        MessageExample("{{agentName}}", {"text": "I am {{agentName}}."}),
        MessageExample("Ada", {"text": "", "action": "NONE"}),
    ]
    character = Character(
        name="Ada",
        bio=["She counts."],
        adjectives=["calm", "exact"],
        topics=["numbers"],
        message_examples=[example] * 5,
    )

    text = system(character)
    assert text.startswith("You are Ada.\n\nAbout you:\n- She counts.\n\nYou are: calm, exact.")
    assert "You know about: numbers." in text
    assert text.count("Someone: Who are you?\nAda: I am Ada.") == 3
    assert "{{" not in text


@pytest.mark.parametrize(
    ("configured", "settings", "expected"),
    [
        (Sampling(), {}, Sampling(None, None, ())),
        (Sampling(), {"temperature": 0.7, "maxTokens": 99}, Sampling(0.7, 99, ())),
        (Sampling(), {"temperature": "hot", "max_tokens": True}, Sampling()),
        (Sampling(), {"max_tokens": 0, "temperature": -1}, Sampling()),
        (Sampling(), {"modelConfig": {"temperature": 0.2, "maxOutputTokens": 5}}, Sampling(0.2, 5)),
        (Sampling(), {"modelConfig": "x", "stop": ["END", "", 3]}, Sampling(None, None, ["END"])),
        (Sampling(0.0, 1, ("a",)), {"temperature": 1, "maxTokens": 9, "stop": ["b"]}, None),
    ],
)
def test_what_the_config_says_goes_before_the_character(
    configured: Sampling, settings: dict[str, Any], expected: Sampling | None
) -> None:
    """Of a character's settings, numbers alone are taken, and texts to stop at."""
    assert sampling(configured, settings) == (configured if expected is None else expected)


def test_a_model_is_asked_with_all_of_it() -> None:
    """System, conversation, sampling."""
    character = Character(name="Ada", settings={"temperature": 0.5})
    request = params(character, [message("1", "Hi")], ME, "It is noon.", Sampling(max_tokens=7))

    assert request.system == "You are Ada.\n\nIt is noon."
    assert request.messages == [{"role": "user", "content": "Hi"}]
    assert (request.temperature, request.max_tokens, request.stop, request.prompt) == (
        0.5,
        7,
        [],
        "",
    )
