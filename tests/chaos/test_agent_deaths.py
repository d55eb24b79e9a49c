"""A kill of agent, platform, model or plugin during an answer: it is sent, and once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import Client, ServiceLost

CONFIG = """
[plugins]
agent = { use = "garrison.workers.services.agent:plugin" }
radio = {}
oracle = {}
deeds = {}
[services.radio.config]
file = "sent.txt"
"""
TWO = """
[plugins]
agent = { use = "garrison.workers.services.agent:plugin" }
radio = {}
oracle = {}
"""
AGENT = """
[agents.NAME]
character = "NAME.json"
plugins = ["agent", "radio"]
[agents.NAME.services.radio.config]
file = "FOLDER/NAME.txt"
"""


@pytest.fixture
def radio() -> Iterator[Host]:
    """Run an agent, a platform, a model and actions."""
    with hosting(CONFIG, ["radio", "oracle", "deeds"], up=False) as host:
        host.write("config.toml", CONFIG.replace("sent.txt", str(host.folder / "sent.txt")))
        yield host.up()


@pytest.fixture
async def client(radio: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with radio.connect() as client:
        yield client


def sent(host: Host) -> list[str]:
    """Return the platform's output, in order."""
    path = host.folder / "sent.txt"
    return path.read_text().splitlines() if path.exists() else []


async def until_called(client: Client, text: str) -> None:
    """Wait until the model was called with a text."""

    async def is_called() -> bool:
        return text in await found(client, "oracle").requests()

    await eventually(is_called, what=f"the model was called with {text!r}")


async def test_a_platform_killed_during_an_answer_sends_it_after_its_restart(
    radio: Host, client: Client
) -> None:
    """Once, although the earlier incarnation received the message."""
    call = found(client, "radio").hear("hang", "1")
    await until_called(client, "hang")
    old = radio.kill("radio")
    with pytest.raises(ServiceLost):
        await call
    await asyncio.to_thread(radio.until_reborn, "radio", old)
    await found(client, "oracle").release()

    await asyncio.to_thread(until, lambda: sent(radio), what="it is sent")
    again = await found(client, "radio").hear("hang", "1")
    assert again == {"sent": ["You wrote: hang"], "failed": []}
    assert sent(radio) == ["r: You wrote: hang"]


async def test_an_answer_waits_for_its_platforms_restart(radio: Host, client: Client) -> None:
    """The model answers while the platform is still down."""
    call = found(client, "radio").ask("hang", "1")
    await until_called(client, "hang")
    old = radio.kill("radio")
    gone = lambda: radio.status("radio")["pid"] != old  # noqa: E731
    await asyncio.to_thread(until, gone, what="its end was seen")
    await found(client, "oracle").release()

    assert (await call)["sent"] == ["You wrote: hang"]
    assert sent(radio) == ["r: You wrote: hang"]


async def test_a_response_that_may_have_been_sent_is_not_repeated(
    radio: Host, client: Client
) -> None:
    """If the platform crashes while it sends, the caller gets a failed result."""
    answer = await found(client, "radio").ask("die", "1")

    assert answer == {"sent": ["You wrote: die"], "failed": ["REPLY"]}
    assert sent(radio) == ["r: You wrote: die"]


async def test_an_agent_killed_during_an_answer_starts_it_again(
    radio: Host, client: Client
) -> None:
    """The caller waits and gets the next incarnation's answer."""
    call = found(client, "radio").hear("hang", "1")
    await until_called(client, "hang")
    old = radio.kill("agent")
    await asyncio.to_thread(radio.until_reborn, "agent", old)
    await found(client, "oracle").release()

    assert (await call)["sent"] == ["You wrote: hang"]
    assert sent(radio) == ["r: You wrote: hang"]


async def test_a_model_killed_during_an_answer_is_called_again(radio: Host, client: Client) -> None:
    """Nothing was sent before, so nothing is sent twice."""
    call = found(client, "radio").hear("hang", "1")
    await until_called(client, "hang")
    radio.kill("oracle")

    assert (await call)["sent"] == ["You wrote: hang"]
    assert sent(radio) == ["r: You wrote: hang"]


async def test_an_action_that_segfaults_fails_alone(radio: Host, client: Client) -> None:
    """The agent keeps running, and the plugin's next incarnation runs the other actions. What the
    action did is not known: that is said, and no model improvises over it."""
    agent, deeds = (radio.status(name)["pid"] for name in ("agent", "deeds"))
    hear = found(client, "radio").hear

    one = await hear("run both", "1", "r", ["SEGFAULT", "TELL"])
    interrupted = "I was interrupted during SEGFAULT; it may be done."
    assert one == {"sent": [interrupted, "done"], "failed": ["SEGFAULT"]}
    two = await hear("crash", "2")
    assert two == {"sent": [interrupted], "failed": ["SEGFAULT"]}
    assert radio.status("agent")["pid"] == agent
    assert radio.status("deeds")["pid"] != deeds


async def test_rooms_are_answered_concurrently_each_in_order(radio: Host, client: Client) -> None:
    """A message that hangs delays its room only; a repeated message is answered once."""
    hear = found(client, "radio").hear
    held = [hear("hang", "1"), hear("hang", "1"), hear("two", "2"), hear("three", "3")]
    await until_called(client, "hang")
    assert (await hear("elsewhere", "4", "other"))["sent"] == ["You wrote: elsewhere"]
    assert sent(radio) == ["other: You wrote: elsewhere"]
    await found(client, "oracle").release()
    one, same, *_ = await asyncio.gather(*held)

    assert one == same
    assert sent(radio)[1:] == [f"r: You wrote: {text}" for text in ("hang", "two", "three")]


@pytest.fixture
def two() -> Iterator[Host]:
    """Run two agents with the same services, and a model for both."""
    files = {f"{name}.json": f'{{"name": "{name}", "bio": []}}' for name in ("ada", "max")}
    with hosting("", ["radio", "oracle"], files, up=False) as host:
        sections = (AGENT.replace("NAME", name) for name in ("ada", "max"))
        host.write("config.toml", TWO + "".join(sections).replace("FOLDER", str(host.folder)))
        yield host.up()


async def test_two_agents_answer_separately(two: Host) -> None:
    """Each with its own character and platform, also after a kill of a platform."""
    async with two.connect() as client:
        for name in ("ada", "max"):
            answer = await found(client, f"{name}.radio").hear("who", "1")
            assert answer == {"sent": [f"You are {name}."], "failed": []}
        held = [found(client, f"{name}.radio").ask("hang", "2") for name in ("ada", "max")]
        await until_called(client, "hang")
        old = two.kill("ada.radio")
        await asyncio.to_thread(two.until_reborn, "ada.radio", old)
        await found(client, "oracle").release()
        await asyncio.gather(*held)

    for name in ("ada", "max"):
        lines = (two.folder / f"{name}.txt").read_text().splitlines()
        assert lines == [f"r: You are {name}.", "r: You wrote: hang"]


async def test_an_event_of_an_agents_platform_is_answered_by_that_agent(two: Host) -> None:
    """The event's source decides."""
    async with two.connect() as client:
        await found(client, "max.radio").tell("who", "1")

    assert (two.folder / "max.txt").read_text().splitlines() == ["r: You are max."]
    assert not (two.folder / "ada.txt").exists()


async def test_an_event_of_a_shared_platform_is_answered_once(tmp_path: Path) -> None:
    """By the first agent, as with `process_actions`."""
    files = {f"{name}.json": f'{{"name": "{name}", "bio": []}}' for name in ("ada", "max")}
    own = "[agents.NAME]\ncharacter = 'NAME.json'\nplugins = ['agent']\n"
    sections = (own.replace("NAME", name) for name in ("ada", "max"))
    shared = f'[services.radio.config]\nfile = "{tmp_path}/all.txt"\n'
    with hosting(TWO + "".join(sections) + shared, ["radio", "oracle"], files) as host:
        async with host.connect() as client:
            await found(client, "radio").tell("who", "1")
            await found(client, "radio").hear("who", "2")

    assert (tmp_path / "all.txt").read_text().splitlines() == ["r: You are ada."] * 2
