"""The model's prompt: the conversation, the character, sampling parameters."""

from typing import Any

import pytest

from garrison.workers import Character, Content, Media, Memory
from garrison.workers.services.agent.prompt import (
    Sampling,
    messages,
    params,
    reply_text,
    sampling,
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
    result, left_out = params(
        character, [spoken("1", "Hi")], ME, "It is noon.", Sampling(max_tokens=7)
    )

    assert left_out == {}
    assert result.system == "You are Ada.\n\nIt is noon."
    assert result.messages == [{"role": "user", "content": "Hi"}]
    assert (result.temperature, result.max_tokens, result.stop, result.prompt) == (0.5, 7, [], "")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Hi", "Hi"),
        ("<response><thought>t</thought><text>Hi\nyou</text></response>", "Hi\nyou"),
        ("<response>\n<text><![CDATA[a < b]]></text>", "a < b"),
        ('```json\n{"user": "Ada", "text": "Hi", "action": "NONE"}\n```', "Hi"),
        ('{"text": "Hi"}', "Hi"),
        ('{"text": 3}', '{"text": 3}'),
        ("{not JSON", "{not JSON"),
        ("[" * 10_000, "[" * 10_000),
    ],
)
def test_a_reply_is_taken_out_of_the_form_that_a_template_asks_for(
    output: str, expected: str
) -> None:
    """XML as the templates of 1.x ask for, JSON as those of 0.x."""
    assert reply_text(output) == expected


def test_long_knowledge_is_recalled_by_the_last_message() -> None:
    """Without an embedding model, by shared words."""
    facts = [
        f"Fact {number} is about the number {number}. " + "filler " * 20 for number in range(90)
    ]
    character = Character(name="Ada", knowledge=[*facts, "Penguins swim."])
    result, _ = params(character, [spoken("1", "Do penguins swim?")], ME, "", Sampling())

    assert "- Penguins swim." in (result.system or "")
    assert len(result.system or "") < 6_000
