"""The model's prompt: the conversation, the character, sampling parameters."""

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


def spoken(by: str, text: str, **more: Any) -> Memory:
    """Return a message."""
    return Memory(content=Content(text, **more.pop("content", {})), entity_id=by, **more)


def test_the_agents_own_messages_are_the_assistants() -> None:
    """A conversation starts with a user's message; messages without text are left out."""
    conversation = [
        spoken(ME, "Welcome."),
        spoken("1", "Hi"),
        spoken("1", ""),
        spoken(ME, "Hello."),
    ]

    assert messages(conversation, ME) == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
    ]


@pytest.mark.parametrize("key", ["entity_name", "entityName", "username", "name"])
def test_several_users_are_distinguished_by_their_names(key: str) -> None:
    """A single user's name is left out."""
    ada = spoken("1", "Hi", metadata={key: "Ada"})
    bob = spoken("2", "Ho", metadata={key: "Bob"})
    nameless = spoken("3", "Ha")

    assert [one["content"] for one in messages([ada, ada], ME)] == ["Hi", "Hi"]
    assert [one["content"] for one in messages([ada, bob, nameless], ME)] == [
        "Ada: Hi",
        "Bob: Ho",
        "Ha",
    ]


def test_attachments_are_described() -> None:
    """A picture without a text is a message too."""
    picture = spoken("1", "", content={"attachments": [Media("http://x/1", description="A cat")]})

    assert messages([picture], ME) == [{"role": "user", "content": "[attached: A cat]"}]


def test_a_characters_own_system_prompt_replaces_the_generated_one() -> None:
    """Placeholders become its name; style and the providers' texts follow."""
    character = Character(
        name="Ada",
        system="You are {{agentName}}.",
        bio=["She counts."],
        style=Style(all=["Be brief."], chat=["Ask."], post=["Never here."]),
    )

    text = system(character, " It is noon. ")
    assert text == "You are Ada.\n\nHow you write:\n- Be brief.\n- Ask.\n\nIt is noon."


def test_the_system_prompt_is_generated_from_the_character() -> None:
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
def test_the_config_goes_before_the_character(
    configured: Sampling, settings: dict[str, Any], expected: Sampling | None
) -> None:
    """Of a character's settings, only numbers and stop texts are used."""
    assert sampling(configured, settings) == (configured if expected is None else expected)


def test_the_params_have_all_of_it() -> None:
    """System, conversation, sampling."""
    character = Character(name="Ada", settings={"temperature": 0.5})
    result = params(character, [spoken("1", "Hi")], ME, "It is noon.", Sampling(max_tokens=7))

    assert result.system == "You are Ada.\n\nIt is noon."
    assert result.messages == [{"role": "user", "content": "Hi"}]
    assert (result.temperature, result.max_tokens, result.stop, result.prompt) == (0.5, 7, [], "")
