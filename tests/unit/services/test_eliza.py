"""eliza as a model: answers, limits of an answer, embeddings, script errors."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc import PermanentFailure, ServiceProxy
from garrison.workers import GenerateTextParams
from garrison.workers.services.eliza import MAX_LINES, ElizaService, answer, load, truncate
from garrison.workers.services.eliza.conversation import Conversation, respond
from garrison.workers.testing import run

SCRIPT = load("")
LINES = [
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
    """Run the service; yield a proxy to it."""
    async with run(ElizaService) as service:
        proxy = service.runtime.get_service("eliza")
        assert isinstance(proxy, ServiceProxy)
        yield proxy


def user(*lines: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": line} for line in lines]


async def test_an_answer_depends_on_the_messages_alone(eliza: Any) -> None:
    """It equals the answer in a conversation that keeps its state; earlier calls have no effect."""
    conversation, expected = Conversation(), []
    for line in LINES:
        text, conversation = respond(SCRIPT, line, conversation)
        expected.append(text)
    numbers = [*range(len(LINES)), *reversed(range(len(LINES)))]
    answers = [await eliza.generate_text({"messages": user(*LINES[: n + 1])}) for n in numbers]
    assert answers == [expected[n] for n in numbers]
    assert len(set(expected)) == len(expected)


async def test_only_the_users_messages_count(eliza: Any) -> None:
    """The system prompt and eliza's own answers are ignored."""
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
async def test_without_a_line_the_answer_is_the_greeting(
    eliza: Any, params: dict[str, Any]
) -> None:
    assert await eliza.generate_text(params) == SCRIPT.greeting


async def test_an_empty_line_is_not_answered_with_the_greeting(eliza: Any) -> None:
    text = await eliza.generate_text({"messages": user("")})
    assert text not in {"", SCRIPT.greeting}


def test_only_the_last_lines_are_processed() -> None:
    """So the cost of a call is bounded."""
    last = ["I am sad"] * MAX_LINES
    assert answer(SCRIPT, ["My mother hates my cat"] * 100 + last) == answer(SCRIPT, last)


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
def test_stop_and_max_tokens_end_the_answer(
    stop: list[str], max_tokens: int | None, text: str
) -> None:
    assert truncate("Why are you sad? Tell me.", stop, max_tokens) == text


async def test_a_stream_is_the_answer_word_by_word(eliza: Any) -> None:
    params = GenerateTextParams(prompt="I am sad", max_tokens=5)
    words = [word async for word in eliza.stream_text(params)]
    assert len(words) == 5
    assert "".join(words) == await eliza.generate_text(params)


async def test_vectors_have_the_configured_dimensions() -> None:
    async with run(ElizaService, config={"dimensions": 12}) as service:
        proxy: Any = service.runtime.get_service("eliza")
        assert len(await proxy.embed({"text": "a cat"})) == 12
        assert await proxy.embed({"text": ""}) == [0.0] * 12


@pytest.mark.parametrize(
    ("text", "part"), [("greetings = 3", "greetings"), (None, "No such file"), ("[", "TOML")]
)
async def test_an_invalid_script_is_a_permanent_failure(
    tmp_path: Path, text: str | None, part: str
) -> None:
    """The error names the file and the mistake."""
    path = tmp_path / "my.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PermanentFailure, match=part) as raised:
        async with run(ElizaService, config={"script": str(path)}):
            pass
    assert str(path) in str(raised.value)
