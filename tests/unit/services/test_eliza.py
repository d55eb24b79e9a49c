"""eliza as a model: what follows from messages, where it ends, and what is alike."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc import PermanentFailure, ServiceProxy
from garrison.workers import GenerateTextParams
from garrison.workers.services.eliza import LINES, ElizaService, answer, ended, load
from garrison.workers.services.eliza.conversation import Conversation, respond
from garrison.workers.testing import run

SCRIPT = load("")
SAID = [
    "My mother hates my cat",
    "I am sad",
    "I am sad",
    "Hm",
    "I need some help",
    "Hm",
    "Perhaps",
]


@pytest.fixture
async def eliza() -> AsyncIterator[Any]:
    """Run the service; yield it as other services have it."""
    async with run(ElizaService) as service:
        proxy = service.runtime.get_service("eliza")
        assert isinstance(proxy, ServiceProxy)
        yield proxy


def user(*lines: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": line} for line in lines]


async def test_an_answer_follows_from_the_messages_alone(eliza: Any) -> None:
    """It is that of a conversation which was held line by line, with turns and memories; who
    asked what before does not count."""
    conversation, held = Conversation(), []
    for line in SAID:
        answer_text, conversation = respond(SCRIPT, line, conversation)
        held.append(answer_text)
    numbers = [*range(len(SAID)), *reversed(range(len(SAID)))]
    answers = [await eliza.generate_text({"messages": user(*SAID[: n + 1])}) for n in numbers]
    assert answers == [held[n] for n in numbers]
    assert len(set(held)) == len(held)


async def test_only_what_the_user_said_counts(eliza: Any) -> None:
    """Neither a character's description nor eliza's own words are taken for the user's."""
    messages = [
        {"role": "system", "content": "I dreamt of my mother"},
        *user("I am sad"),
        {"role": "assistant", "content": "I dreamt of my mother"},
    ]
    params = {"system": "My father", "messages": messages, "prompt": "I am glad"}
    bare = {"messages": user("I am sad", "I am glad")}
    assert await eliza.generate_text(params) == await eliza.generate_text(bare)


@pytest.mark.parametrize(
    "params", [{}, {"system": "I am sad"}, {"messages": [{"role": "assistant", "content": "Hm"}]}]
)
async def test_who_has_said_nothing_is_greeted(eliza: Any, params: dict[str, Any]) -> None:
    assert await eliza.generate_text(params) == SCRIPT.greeting


async def test_an_empty_line_is_silence_and_no_greeting(eliza: Any) -> None:
    answer_text = await eliza.generate_text({"messages": user("")})
    assert answer_text not in {"", SCRIPT.greeting}


def test_only_the_last_lines_are_gone_through() -> None:
    """However many there are; what is asked of it costs no more than that."""
    late = ["I am sad"] * LINES
    assert answer(SCRIPT, ["My mother hates my cat"] * 100 + late) == answer(SCRIPT, late)


@pytest.mark.parametrize(
    ("stop", "max_tokens", "text"),
    [
        ([], None, "Why are you sad? Tell me."),
        (["?", "are"], None, "Why"),
        (["?", ""], None, "Why are you sad"),
        (["nowhere"], 99, "Why are you sad? Tell me."),
        ([], 2, "Why are"),
        (["are"], 2, "Why"),
        ([], 0, ""),
        ([], -1, ""),
        (["Why"], None, ""),
    ],
)
def test_it_ends_where_it_is_told_to(stop: list[str], max_tokens: int | None, text: str) -> None:
    assert ended("Why are you sad? Tell me.", stop, max_tokens) == text


async def test_a_stream_is_the_answer_word_by_word(eliza: Any) -> None:
    params = GenerateTextParams(prompt="I am sad", max_tokens=5)
    pieces = [piece async for piece in eliza.stream_text(params)]
    assert len(pieces) == 5
    assert "".join(pieces) == await eliza.generate_text(params)


async def test_vectors_have_the_configured_dimensions() -> None:
    async with run(ElizaService, config={"dimensions": 12}) as service:
        proxy: Any = service.runtime.get_service("eliza")
        assert len(await proxy.embed({"text": "a cat"})) == 12
        assert await proxy.embed({"text": ""}) == [0.0] * 12


@pytest.mark.parametrize(
    ("text", "part"), [("greetings = 3", "greetings"), (None, "No such file"), ("[", "TOML")]
)
async def test_a_script_that_cannot_be_used_is_permanent(
    tmp_path: Path, text: str | None, part: str
) -> None:
    """Trying again is no use; the reason names the file and the mistake."""
    path = tmp_path / "my.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PermanentFailure, match=part) as raised:
        async with run(ElizaService, config={"script": str(path)}):
            pass
    assert str(path) in str(raised.value)
