"""Models that fall back, with real workers: every kind of error, a hang, half a stream."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import CallError, Client
from garrison.workers import Content, Memory

CONFIG = """
[plugins.moods]
use = "moody"
[plugins.agent]
[services.agent.config]
fallback = false
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host that all tests here share."""
    with hosting(CONFIG, plugins=["moody"]) as host:
        yield host


async def asking(running: Host, client: Client) -> tuple[Any, Any]:
    """Return the one that asks and the first provider, which is not passed over."""
    running.ask("restart", "moody")
    inquirer, generation = found(client, "inquirer"), running.status("moody")["generation"]

    async def sees() -> bool:
        return bool(await inquirer.sees("moody", generation))

    await eventually(sees)
    return inquirer, found(client, "moody")


@pytest.mark.parametrize(
    ("prompt", "answer", "next_asked"),
    [
        ("busy", "spare: busy", []),
        ("busy 30", "spare: busy 30", []),
        ("busy 0", "spare: busy 0", ["next"]),
        ("auth", "spare: auth", []),
        ("unknown", "spare: unknown", []),
        ("half", "spare: half", ["next"]),  # nobody has read of it
        ("refused 1", "spare: refused 1", ["next"]),
        ("refused", {"moody": "ModelError refused", "spare": "ModelError refused"}, ["next"]),
        ("invalid", {"moody": "ModelError invalid"}, ["next"]),
    ],
)
async def test_each_kind_of_error(
    running: Host, prompt: str, answer: Any, next_asked: list[str]
) -> None:
    """The answer of the next provider or the errors; and whether the next request passes over."""
    async with running.connect() as client:
        inquirer, moody = await asking(running, client)

        assert await inquirer.ask(prompt) == answer
        assert await moody.asked() == [prompt]

        await inquirer.ask("next")
        assert await moody.asked() == next_asked


async def test_a_text_that_is_too_long_is_shortened_once(running: Host) -> None:
    """By its middle, and asked of the same provider."""
    async with running.connect() as client:
        inquirer, moody = await asking(running, client)

        answer = await inquirer.ask("context " + "x" * 150)
        assert answer.startswith("moody: context ")
        assert [len(prompt) < 100 for prompt in await moody.asked()] == [False, True]
        answer = await inquirer.ask("context " + "x" * 1000)
        assert answer.startswith("spare: context ")
        assert len(await moody.asked()) == 2
        assert await inquirer.ask("next") == "moody: next"


async def test_a_provider_that_hangs_has_the_next_one_asked(running: Host) -> None:
    """After the caller's timeout; a stream likewise, as long as nothing of it was read."""
    async with running.connect() as client:
        inquirer, _ = await asking(running, client)

        assert await inquirer.ask("hang") == "spare: hang"
        assert await inquirer.stream("hang") == ["spare: hang"]
        assert await inquirer.ask("hang", "moody") == {"moody": "CallTimeout"}


async def test_of_a_stream_nothing_is_asked_again_once_it_was_read(running: Host) -> None:
    """Half an answer is an error with its kind; one that is left is closed at the provider."""
    async with running.connect() as client:
        inquirer, moody = await asking(running, client)

        assert await inquirer.stream("whole") == ["moody: ", "whole"]
        assert await inquirer.stream("busy") == ["spare: busy"]
        inquirer, moody = await asking(running, client)
        assert await inquirer.stream("half") == ["moody: ", "ModelError busy"]
        assert await inquirer.stream("endless", 1) == ["moody: "]

        async def closed() -> bool:
            return bool(await moody.left_streams())

        await eventually(closed)


async def test_status_shows_who_fails_and_why(running: Host) -> None:
    """Marked, on the line of the service that passes over it, until it answers again."""
    async with running.connect() as client:
        inquirer, _ = await asking(running, client)

        def shown() -> str:
            return " ".join(running.run("status", "inquirer").out.split())

        await inquirer.ask("auth")
        said = "! moody fails at TEXT_LARGE: auth: as asked"
        until(lambda: said in shown(), what="the warning")
        assert "model.failed model=TEXT_LARGE provider=moody passed_over_s=1" in running.log(
            "inquirer"
        )
        await asking(running, client)
        assert await inquirer.ask("well") == "moody: well"
        until(lambda: "moody fails" not in shown(), what="no warning")


async def test_without_fallback_no_other_is_asked(running: Host) -> None:
    """Nor is it passed over."""
    async with running.connect() as client:
        inquirer, moody = await asking(running, client)

        for _ in range(2):
            failed = {"moody": "ModelError busy"}
            assert await inquirer.ask("busy 30", fallback=False) == failed
        assert await moody.asked() == ["busy 30"] * 2


async def test_an_agent_may_be_told_not_to_fall_back(running: Host) -> None:
    """Another model would answer in its place."""
    async with running.connect() as client:
        _, moody = await asking(running, client)
        content = Content("auth 5", source="inquirer")
        message = Memory(content=content, id="1", room_id="r", entity_id="ada")

        with contextlib.suppress(CallError):
            await found(client, "agent").process_actions(message)

        assert await moody.asked() == ["auth 5"]
        assert "auth 5" not in await found(client, "spare").asked()
