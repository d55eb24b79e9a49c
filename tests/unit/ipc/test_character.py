"""Character files in every shape that elizaOS has had load; a mistake is named by its key, and no
error shows a value."""

import json
from typing import Any

import msgspec
import pytest

from garrison.ipc.character import (
    Character,
    CharacterError,
    MessageExample,
    Style,
    choose,
    default_character,
    parse,
    parse_all,
    secrets_of,
    setting_of,
    unused_in,
    without_foreign_secrets,
)
from garrison.ipc.character_use import unused_fields


def of(**fields: Any) -> Character:
    """Return the character of a file with these keys besides its name."""
    return parse(json.dumps({"name": "Ada", **fields}).encode())


# As the files of 0.x are: `user`, a bio in one text, lore, clients, a model's provider, secrets
# within the settings, empty where the owner is to fill them in.
OLD = {
    "name": "Bram",
    "clients": ["discord"],
    "modelProvider": "openai",
    "imageModelProvider": "other",
    "settings": {
        "secrets": {"OPENAI_API_KEY": "", "SMALL_MODEL": "tiny-1"},
        "voice": {"model": "en-low"},
        "chains": {"evm": ["base", "mainnet"]},
    },
    "plugins": [],
    "bio": "Mends clocks.",
    "lore": ["He was one."],
    "knowledge": ["Pendulums"],
    "messageExamples": [
        [
            {"user": "{{user1}}", "content": {"text": "Is it late?"}},
            {"user": "Bram", "content": {"text": "By a minute.", "action": "CONTINUE"}},
        ]
    ],
    "postExamples": ["Tick."],
    "topics": ["time"],
    "style": {"all": ["dry"], "chat": ["short"], "post": []},
    "adjectives": ["patient"],
    "twitterProfile": {"id": 123, "nicknames": []},
}
# As those of 1.x are: `name`, a system prompt, templates, knowledge in files, settings of any kind.
NEW = {
    "id": "0d7f",
    "name": "Cleo",
    "username": "cleo",
    "system": "You are Cleo.",
    "templates": {"greeting": "Hello, {{name}}."},
    "plugins": ["@example/plugin-sql"],
    "bio": ["Reads maps.", "Draws them."],
    "knowledge": [{"directory": "maps", "shared": False}, {"path": "one.md"}, "Rivers"],
    "messageExamples": [[{"name": "{{name1}}", "content": {"text": "Where?", "actions": ["X"]}}]],
    "style": {"all": "exact", "chat": ["kind"]},
    "settings": {"temperature": 0.7, "loud": False, "tries": 0, "note": "", "none": None},
    "secrets": {},
}
# As those of 2.x are: conversations as objects.
NEWEST = {
    "name": "Dora",
    "bio": ["Asks."],
    "messageExamples": [{"examples": [{"name": "user", "content": {"text": "Why?"}}]}],
}


def test_a_file_of_0_x_loads() -> None:
    """What has no field of its own is kept as it stands."""
    bram = parse(json.dumps(OLD).encode())

    assert (bram.name, bram.bio, bram.topics) == ("Bram", ["Mends clocks."], ["time"])
    assert bram.style == Style(["dry"], ["short"], [])
    question, answer = bram.message_examples[0]
    assert (question.name, question.text) == ("{{user1}}", "Is it late?")
    assert answer.content == {"text": "By a minute.", "action": "CONTINUE"}
    assert bram.settings == OLD["settings"]
    assert set(bram.extra) == {
        *("clients", "modelProvider", "imageModelProvider", "lore", "twitterProfile")
    }
    assert bram.extra["twitterProfile"] == {"id": 123, "nicknames": []}


def test_a_file_of_1_x_loads() -> None:
    """Settings and knowledge are of any shape."""
    cleo = parse(json.dumps(NEW).encode())

    assert (cleo.id, cleo.username, cleo.system) == ("0d7f", "cleo", "You are Cleo.")
    assert cleo.templates == {"greeting": "Hello, {{name}}."}
    assert cleo.knowledge == NEW["knowledge"]
    assert cleo.style == Style(["exact"], ["kind"])
    assert cleo.message_examples[0][0].content == {"text": "Where?", "actions": ["X"]}
    assert (cleo.settings["tries"], cleo.secrets, cleo.extra) == (0, {}, {})


def test_a_file_of_2_x_loads() -> None:
    """A conversation in an object is one like any other."""
    dora = parse(json.dumps(NEWEST).encode())

    assert dora.message_examples == [[MessageExample("user", {"text": "Why?"})]]


@pytest.mark.parametrize(
    ("fields", "field", "expected"),
    [
        ({"bio": ""}, "bio", []),
        ({"bio": None}, "bio", []),
        ({"topics": "one"}, "topics", ["one"]),
        ({"knowledge": {"path": "x"}}, "knowledge", [{"path": "x"}]),
        ({"style": "dry"}, "style", Style(["dry"])),
        ({"style": {"all": None, "more": 3}}, "style", Style()),
        ({"message_examples": [[{"name": "a"}]]}, "message_examples", [[MessageExample("a")]]),
        ({"messageExamples": [[{"user": "a", "content": "Hi"}]]}, "message_examples",
         [[MessageExample("a", {"text": "Hi"})]]),
        ({"settings": {"n": 10**40}}, "settings", {"n": str(10**40)}),
        ({"settings": None, "secrets": None}, "settings", {}),
        ({"post_examples": ["a"]}, "post_examples", ["a"]),
        ({"extra": {"a": 1}, "b": 2}, "extra", {"a": 1, "b": 2}),
        ({"name": " Ada "}, "name", "Ada"),
    ],
)  # fmt: skip
def test_odd_shapes_are_accepted(fields: dict[str, Any], field: str, expected: object) -> None:
    """One text is a list of one, null is nothing, and a number that the wire has no room for is
    its digits."""
    assert getattr(of(**fields), field) == expected


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        (b'{"bio": "x"}', "", "name is missing"),
        (b'{"name": null}', "", "name is missing"),
        (b'{"name": " "}', "name", "expected a name, got an empty text"),
        (b'{"name": 3}', "name", "expected a text, got a number"),
        (b'{"name": "A", "bio": 4}', "bio", "expected a text or a list of texts, got a number"),
        (b'{"name": "A", "bio": ["a", {}]}', "bio[1]", "expected a text, got an object"),
        (b'{"name": "A", "style": {"all": [1]}}', "style.all[0]", "expected a text, got a number"),
        (b'{"name": "A", "style": true}', "style", "got true or false"),
        (b'{"name": "A", "settings": []}', "settings", "expected an object, got a list"),
        (b'{"name": "A", "secrets": "s3cret"}', "secrets", "expected an object, got a text"),
        (b'{"name": "A", "settings": {"secrets": "s3cret"}}', "settings.secrets", "an object"),
        (b'{"name": "A", "messageExamples": {}}', "messageExamples", "a list of conversations"),
        (b'{"name": "A", "messageExamples": [{}]}', "messageExamples[0]", "a list of messages"),
        (b'{"name": "A", "messageExamples": [[{}]]}', "messageExamples[0][0]", "name nor user"),
        (b'{"name": "A", "messageExamples": [[{"user": 1}]]}', "messageExamples[0][0].user",
         "a text, got a number"),
        (b'{"name": "A", "messageExamples": [[{"user": "a", "content": 1}]]}',
         "messageExamples[0][0].content", "an object, got a number"),
        (b'[{"name": "A"}, {"name": "B", "topics": 1}]', "[1].topics", "got a number"),
        (b'["a"]', "[0]", "expected a character, which is an object in { }, got a text"),
        (b"[]", "", "a list of characters holds 1 to 100, not 0"),
        (b"[" + b'{"name": "A"},' * 100 + b'{"name": "A"}]', "", "1 to 100, not 101"),
        (b"7", "", "expected a character"),
        (b"", "", "it is not JSON"),
        (b'{"name": "s3cret", \n\n"bio": oops}', "", "it is not JSON: invalid character in line 3"),
        (b'{"name": "A",}', "", "trailing comma in object in line 1"),
        (b'{"name": "\xff"}', "", "it is not UTF-8 text (byte 10)"),
        (b'{"name": "\\ud83d"}', "", "it is not JSON"),
        (b"[" * 100_000, "", "it is nested too deeply"),
        (b'{"name": "A", "settings": ' + b"[" * 90 + b"]" * 90 + b"}", "", "nested too deeply"),
        (b'{"name": "' + b"x" * (1 << 20) + b'"}', "", "it is larger than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_its_key(data: bytes, key: str, expected: str) -> None:
    """And by what was expected; no value is shown."""
    with pytest.raises(CharacterError) as caught:
        parse_all(data)
    assert caught.value.key == key
    assert expected in caught.value.problem
    assert "s3cret" not in str(caught.value)


def test_a_byte_order_mark_is_no_mistake() -> None:
    """Editors on Windows begin a file with one."""
    assert parse(b'\xef\xbb\xbf{"name": "A"}').name == "A"


ADA, MAX = Character(name="Ada"), Character(name="Max")


@pytest.mark.parametrize(
    ("characters", "wanted", "agent", "expected"),
    [
        ([ADA], "", "", "Ada"),
        ([ADA], "", "max", "Ada"),
        ([ADA, MAX], "max", "", "Max"),
        ([ADA, MAX], "Ada", "max", "Ada"),
        ([ADA, MAX], "", "max", "Max"),
    ],
)
def test_of_several_one_is_meant(
    characters: list[Character], wanted: str, agent: str, expected: str
) -> None:
    """By the path, or by the agent's NAME."""
    assert choose(characters, wanted, agent).name == expected


@pytest.mark.parametrize(
    ("characters", "wanted", "agent", "expected"),
    [
        ([ADA, MAX], "", "", "several characters: Ada, Max; pick one by its name"),
        ([ADA, MAX], "", "eva", "pick one by its name"),
        ([ADA, MAX], "eva", "ada", "no character of the name eva, but Ada, Max"),
        ([ADA], "eva", "", "no character of the name eva, but Ada"),
        ([ADA, ADA], "ada", "", "several characters of the name ada"),
    ],
)
def test_of_several_none_is_meant(
    characters: list[Character], wanted: str, agent: str, expected: str
) -> None:
    """The text lists the characters of the file."""
    with pytest.raises(CharacterError, match=expected):
        choose(characters, wanted, agent)


def test_it_travels() -> None:
    """What a file holds is what a worker has."""
    for document in (OLD, NEW, NEWEST):
        character = parse(json.dumps(document).encode())
        packed = msgspec.msgpack.encode(character)
        assert msgspec.msgpack.decode(packed, type=Character) == character
    assert default_character().name == "Eliza"


def test_its_id_is_its_own_or_its_names() -> None:
    """The same name gives the same id in every process."""
    assert of(id="x").agent_id == "x"
    assert of().agent_id == of(bio="other").agent_id != MAX.agent_id


@pytest.mark.parametrize(
    ("secrets", "settings", "expected"),
    [
        ({"K": "1"}, {"K": "2", "secrets": {"K": "3"}}, "1"),
        ({}, {"K": "2", "secrets": {"K": "3"}}, "2"),
        ({}, {"secrets": {"K": "3"}}, "3"),
        ({"K": None}, {"K": None, "secrets": {"K": "3"}}, "3"),
        ({"K": ""}, {"K": "2"}, ""),
        ({"K": False}, {"K": "2"}, False),
        ({}, {"K": 0, "secrets": {"K": "3"}}, 0),
        ({}, {"K": {"deep": [1]}}, {"deep": [1]}),
        ({"L": "1"}, {"secrets": {"L": "3"}}, None),
        ({}, {"secrets": None}, None),
    ],
)
def test_a_setting_is_looked_for_in_order(
    secrets: dict[str, Any], settings: dict[str, Any], expected: object
) -> None:
    """Secrets, settings, the settings' secrets; only null is none."""
    assert setting_of(of(secrets=secrets, settings=settings), "K") == expected


@pytest.mark.parametrize(
    ("own", "given", "secrets", "nested"),
    [
        ((), (), {"EMPTY": ""}, {}),
        (("A",), ("A",), {"A": "a", "EMPTY": ""}, {}),
        (("B",), ("B",), {"EMPTY": ""}, {"B": "b"}),
        ((), ("A", "EMPTY"), {}, {}),
    ],
)
def test_no_secret_is_told_but_those_that_are_given(
    own: tuple[str, ...], given: tuple[str, ...], secrets: object, nested: object
) -> None:
    """An empty secret stays, unless it would hide a value that the service has from elsewhere. A
    value that another one of its name hides is left out."""
    settings = {"secrets": {"A": "other", "B": "b", "EMPTY": "c"}, "url": "x"}
    whole = of(secrets={"A": "a", "EMPTY": ""}, settings=settings)

    assert secrets_of(whole) == {"A": "a", "B": "b"}
    copy = without_foreign_secrets(whole, own, given)
    assert (copy.secrets, copy.settings) == (secrets, {"secrets": nested, "url": "x"})
    assert whole.secrets == {"A": "a", "EMPTY": ""}


def test_a_secret_is_a_text() -> None:
    """As an environment variable holds it."""
    numbers = {"N": 5, "T": True, "L": [1], "NONE": None}
    assert secrets_of(of(secrets=numbers)) == {"N": "5", "T": "true", "L": "[1]"}


# --- what the agent uses ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (OLD, ["clients", "modelProvider", "imageModelProvider",
               "messageExamples[].content.action", "twitterProfile"]),
        (NEW, ["templates.greeting", "plugins", "knowledge[].directory", "knowledge[].shared",
               "knowledge[].path", "messageExamples[].content.actions"]),
        (NEWEST, []),
        ({"people": ["Bo"], "lore": {"a": 1}, "plugins": []}, ["people", "lore"]),
        ({"style": {"all": ["x"], "voice": "y"}, "extra": {"a": 1}}, ["style.voice", "extra"]),
        ({"templates": {"replyTemplate": "a", "messageHandlerTemplate": "b"}},
         ["templates.messageHandlerTemplate"]),
        ({"templates": {"discordMessageHandlerTemplate": "a", "twitterPostTemplate": 3}},
         ["templates.twitterPostTemplate"]),
        ({"knowledge": [{"id": "1", "path": "a.md", "content": "Text"}, 3]},
         ["knowledge[].id", "knowledge[].path", "knowledge[]"]),
        ({"messageExamples": [{"title": "T", "examples": [{"user": "a", "name": "b"}]}]},
         ["messageExamples[].title", "messageExamples[].user",
          "messageExamples[].name without a text"]),
    ],
)  # fmt: skip
def test_what_a_file_has_that_the_agent_does_not_use(
    table: dict[str, Any], expected: list[str]
) -> None:
    """Each place once. Settings and secrets are read by services, the id names the agent."""
    whole = {"name": "Ada", "id": "1", "settings": {"voice": "v"}, "secrets": {"A": "b"}, **table}
    assert unused_fields(whole) == expected


def test_of_several_characters_the_named_one_is_meant() -> None:
    """Its name may have spaces around it in the file."""
    both = json.dumps([{"name": "Ada", "clients": ["x"]}, {"name": " Max ", "people": ["y"]}])
    assert unused_in(both.encode(), "Max") == ["people"]
    assert unused_in(both.encode(), "Eva") == []


@pytest.mark.parametrize(
    ("is_post", "source", "expected"),
    [
        (False, "", "reply"),
        (False, "discord", "discord"),
        (False, "ada.discord-2", "discord"),
        (False, "telegram", "reply"),
        (True, "", "post"),
        (True, "twitter", "twitter"),
    ],
)
def test_a_platforms_own_template_comes_first(is_post: bool, source: str, expected: str) -> None:
    """Then the one for all. What is no text is none."""
    cleo = of(
        templates={
            "messageHandlerTemplate": "message",
            "replyTemplate": "reply",
            "discordMessageHandlerTemplate": "discord",
            "telegramMessageHandlerTemplate": {"no": "text"},
            "postCreationTemplate": "post",
            "twitterPostTemplate": "twitter",
        }
    )
    assert cleo.template(is_post, source) == expected
    assert of().template() == ""
