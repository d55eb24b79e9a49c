"""Objects by JSON Schema, on the way to a provider and back; images; params that differ by API."""

from types import SimpleNamespace
from typing import Any, Literal

import msgspec
import pytest

from garrison.ipc import ModelError
from garrison.workers import GenerateObjectParams, GenerateTextParams, Media
from garrison.workers.agents.objects import as_wanted, json_schema, with_schema
from garrison.workers.services.anthropic import messages as anthropic
from garrison.workers.services.model_support.images import Image, images_of
from garrison.workers.services.model_support.schemas import object_of, sent_schema
from garrison.workers.services.model_support.usage import Used
from garrison.workers.services.openai import messages as openai


class Mood(msgspec.Struct):
    """What a model is to fill in."""

    word: Literal["good", "bad"]
    why: list[str] = []
    level: int | None = None


MOOD = json_schema(Mood)


def test_a_type_travels_as_its_schema() -> None:
    """And what comes back is of that type."""
    wanted, sent = with_schema("OBJECT_SMALL", {"prompt": "x", "schema": Mood})
    assert (wanted, sent["schema"]["type"]) == (Mood, "object")
    params = GenerateObjectParams("x", schema=list[int])
    assert with_schema("OBJECT_LARGE", params)[1]["schema"] == {
        "type": "array",
        "items": {"type": "integer"},
    }
    same = {"prompt": "x", "schema": {"type": "object"}}
    assert with_schema("OBJECT_SMALL", same) == (None, same)
    assert with_schema("TEXT_SMALL", {"schema": Mood}) == (None, {"schema": Mood})

    assert as_wanted({"word": "good"}, Mood) == Mood("good")
    assert as_wanted({"word": "good"}, None) == {"word": "good"}
    with pytest.raises(ModelError, match="refused: its object does not fit the type"):
        as_wanted({"word": "odd"}, Mood)


@pytest.mark.parametrize(
    ("text", "schema", "value"),
    [
        ('{"word": "good"}', MOOD, {"word": "good"}),
        (
            'Sure!\n```json\n{"word": "good", "level": null}\n```',
            MOOD,
            {"word": "good", "level": None},
        ),
        ('{"value": [1, 2]}', json_schema(list[int]), [1, 2]),
        ('{"value": 2.0}', {"type": "integer"}, 2.0),
    ],
)
def test_an_object_is_read(text: str, schema: Any, value: Any) -> None:
    """From bare JSON or a fenced block; what is no object was wrapped in one."""
    assert object_of(text, schema) == value


@pytest.mark.parametrize(
    ("text", "schema", "why"),
    [
        ("I cannot", MOOD, "it wrote no JSON: 'I cannot'"),
        ('{"word": "go', MOOD, "it wrote no JSON"),
        ("{}", MOOD, "it lacks 'word'"),
        ('{"word": "odd"}', MOOD, "word is 'odd', not one of"),
        ('{"word": "good", "why": [1]}', MOOD, r"why\[0\] is 1, not string"),
        ('{"word": "good", "level": "x"}', MOOD, "level is 'x', not integer"),
        ('{"value": [true]}', json_schema(list[int]), r"value\[0\] is True, not integer"),
        ('{"value": 1, "x": 2}', {"type": "integer"}, "it has an unknown field 'x'"),
        ('{"value": 1}', {"const": 2}, "value is 1, not 2"),
        ("[]", MOOD, "it is \\[\\], not object"),
    ],
)
def test_an_object_that_does_not_fit_is_asked_of_the_next_provider(
    text: str, schema: Any, why: str
) -> None:
    """The error names the place."""
    with pytest.raises(ModelError, match=why) as raised:
        object_of(text, schema)

    assert raised.value.kind == "refused"


def test_definitions_stay_at_the_root() -> None:
    """References are from there."""
    sent = sent_schema(json_schema(list[Mood]))

    assert "Mood" in sent["$defs"]
    assert object_of('{"value": [{"word": "bad"}]}', json_schema(list[Mood])) == [{"word": "bad"}]
    with pytest.raises(ModelError, match=r"value\[0\].word is 1"):
        object_of('{"value": [{"word": 1}]}', json_schema(list[Mood]))
    with pytest.raises(ModelError, match="invalid: an object needs `schema`"):
        sent_schema({})


PNG = "data:image/png;base64,aGk="


def test_images_are_addresses_or_data() -> None:
    """Other attachments are left out; a file of this machine is never opened."""
    attached = [Media(PNG), Media("http://x/y.png"), Media("http://x/y", content_type="audio/mp3")]
    assert images_of(attached) == [Image(PNG, "image/png", "aGk="), Image("http://x/y.png")]
    for url in ("/etc/passwd", "file:///etc/passwd", "data:image/svg+xml;base64,aGk="):
        with pytest.raises(ModelError, match="invalid: an image is at an http"):
            images_of([Media(url, content_type="image/png")])
    with pytest.raises(ModelError, match="base64 is damaged"):
        images_of([Media("data:image/png;base64,a")])


PARAMS = GenerateTextParams(
    "now",
    system="be kind",
    messages=[
        {"role": "assistant", "content": "hello"},
        {"role": "user", "content": "see", "attachments": [Media(PNG)]},
    ],
    temperature=0.5,
    stop=["\n", "END"],
)


def test_a_request_to_openai() -> None:
    """What is not set is not sent."""
    request = openai.chat_request(PARAMS, "m", "max_tokens")

    assert request == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "assistant", "content": "hello"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "see"},
                    {"type": "image_url", "image_url": {"url": PNG}},
                ],
            },
            {"role": "user", "content": "now"},
        ],
        "temperature": 0.5,
        "stop": ["\n", "END"],
    }
    wanted = openai.object_request(GenerateObjectParams("x", max_tokens=3, schema=MOOD), "m", "t")
    assert wanted["t"] == 3
    assert wanted["response_format"]["json_schema"]["schema"]["properties"].keys() == {
        *("word", "why", "level")
    }


def test_a_request_to_anthropic() -> None:
    """The user begins, system texts stand apart, and two marks say what is kept."""
    request = anthropic.message_request(PARAMS, "m", 99, prompt_cache=True)
    kept = {"cache_control": {"type": "ephemeral"}}

    assert request == {
        "model": "m",
        "max_tokens": 99,
        "system": [{"type": "text", "text": "be kind", **kept}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "…"}]},
            {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
                    },
                    {"type": "text", "text": "see"},
                ],
            },
            {"role": "user", "content": [{"type": "text", "text": "now", **kept}]},
        ],
        "stop_sequences": ["END"],
        "extra_body": {"temperature": 0.5},
    }
    plain = anthropic.message_request(PARAMS, "m", 99, prompt_cache=False)
    assert "cache_control" not in str(plain)
    wanted = anthropic.object_request(GenerateObjectParams("x", schema=MOOD), "m", 9, False)
    assert wanted["tool_choice"] == {"type": "tool", "name": "answer"}


def test_an_object_in_a_text_is_taken_where_no_tool_was_called() -> None:
    """A server that is only like Anthropic's may write it so; another text is refused."""

    def said(text: str) -> Any:
        blocks = [SimpleNamespace(type="text", text=text)]
        return SimpleNamespace(content=blocks, stop_reason="end_turn", usage=None)

    assert anthropic.object_of(said('{"word": "good"}'), MOOD, Used()) == {"word": "good"}
    with pytest.raises(ModelError, match="refused: it wrote no JSON"):
        anthropic.object_of(said("Good."), MOOD, Used())
