"""Each process that takes part in an answer dies during it: the answer is sent, and only once."""

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


def sent_by(host: Host) -> list[str]:
    """Return what a platform has sent, in order."""
    path = host.folder / "sent.txt"
    return path.read_text().splitlines() if path.exists() else []


async def until_requested(client: Client, text: str) -> None:
    """Wait until the model has a request."""

    async def has_request() -> bool:
        return text in await found(client, "oracle").requests()

    await eventually(has_request, what=f"the model has the request {text!r}")


async def test_a_platform_that_dies_in_mid_answer_sends_it_after_its_restart(
    radio: Host, client: Client
) -> None:
    """Once, although the incarnation before received the message."""
    asking = found(client, "radio").hear("hang", "1")
    await until_requested(client, "hang")
    old = radio.kill("radio")
    with pytest.raises(ServiceLost):
        await asking
    await asyncio.to_thread(radio.until_reborn, "radio", old)
    await found(client, "oracle").release()

    await asyncio.to_thread(until, lambda: sent_by(radio), what="the answer is sent")
    again = await found(client, "radio").hear("hang", "1")
    assert again == {"sent": ["You wrote: hang"], "failed": []}
    assert sent_by(radio) == ["r: You wrote: hang"]


async def test_an_answer_waits_for_a_platform_that_restarts(radio: Host, client: Client) -> None:
    """The model answers before the platform runs again."""
    asking = found(client, "radio").ask("hang", "1")
    await until_requested(client, "hang")
    old = radio.kill("radio")
    gone = lambda: radio.status("radio")["pid"] != old  # noqa: E731
    await asyncio.to_thread(until, gone, what="its end was seen")
    await found(client, "oracle").release()

    assert (await asking)["sent"] == ["You wrote: hang"]
    assert sent_by(radio) == ["r: You wrote: hang"]


async def test_an_answer_that_may_have_been_sent_is_not_sent_again(
    radio: Host, client: Client
) -> None:
    """A platform dies while it sends: the failure is in the result."""
    answer = await found(client, "radio").ask("die", "1")

    assert answer == {"sent": ["You wrote: die"], "failed": ["REPLY"]}
    assert sent_by(radio) == ["r: You wrote: die"]


async def test_an_agent_that_dies_in_mid_answer_begins_anew(radio: Host, client: Client) -> None:
    """Its caller waits, and gets the answer of the next incarnation."""
    asking = found(client, "radio").hear("hang", "1")
    await until_requested(client, "hang")
    old = radio.kill("agent")
    await asyncio.to_thread(radio.until_reborn, "agent", old)
    await found(client, "oracle").release()

    assert (await asking)["sent"] == ["You wrote: hang"]
    assert sent_by(radio) == ["r: You wrote: hang"]


async def test_a_model_that_dies_in_mid_answer_gets_the_request_again(
    radio: Host, client: Client
) -> None:
    """Nothing was sent yet, so nothing is sent twice."""
    asking = found(client, "radio").hear("hang", "1")
    await until_requested(client, "hang")
    radio.kill("oracle")

    assert (await asking)["sent"] == ["You wrote: hang"]
    assert sent_by(radio) == ["r: You wrote: hang"]


async def test_an_action_that_segfaults_fails_alone(radio: Host, client: Client) -> None:
    """The agent keeps running, the plugin's next incarnation runs other actions, and a message is
    answered even if its only action failed."""
    agent, deeds = (radio.status(name)["pid"] for name in ("agent", "deeds"))
    hear = found(client, "radio").hear

    one = await hear("run both", "1", "r", ["SEGFAULT", "TELL"])
    assert one == {"sent": ["done"], "failed": ["SEGFAULT"]}
    two = await hear("crash", "2")
    assert two == {"sent": ["You wrote: crash"], "failed": ["SEGFAULT"]}
    assert radio.status("agent")["pid"] == agent
    assert radio.status("deeds")["pid"] != deeds


async def test_rooms_side_by_side_each_in_its_order(radio: Host, client: Client) -> None:
    """A message that hangs delays its own room only; a message that comes twice is answered
    once."""
    hear = found(client, "radio").hear
    held = [hear("hang", "1"), hear("hang", "1"), hear("two", "2"), hear("three", "3")]
    await until_requested(client, "hang")
    assert (await hear("elsewhere", "4", "other"))["sent"] == ["You wrote: elsewhere"]
    assert sent_by(radio) == ["other: You wrote: elsewhere"]
    await found(client, "oracle").release()
    one, same, *_ = await asyncio.gather(*held)

    assert one == same
    assert sent_by(radio)[1:] == [f"r: You wrote: {text}" for text in ("hang", "two", "three")]


@pytest.fixture
def two() -> Iterator[Host]:
    """Run two agents with the same services, and a model for both."""
    files = {f"{name}.json": f'{{"name": "{name}", "bio": []}}' for name in ("ada", "max")}
    with hosting("", ["radio", "oracle"], files, up=False) as host:
        sections = (AGENT.replace("NAME", name) for name in ("ada", "max"))
        host.write("config.toml", TWO + "".join(sections).replace("FOLDER", str(host.folder)))
        yield host.up()


async def test_two_agents_answer_for_themselves(two: Host) -> None:
    """Each with its own character and its own platform, also if that dies during the answer."""
    async with two.connect() as client:
        for name in ("ada", "max"):
            answer = await found(client, f"{name}.radio").hear("who", "1")
            assert answer == {"sent": [f"You are {name}."], "failed": []}
        held = [found(client, f"{name}.radio").ask("hang", "2") for name in ("ada", "max")]
        await until_requested(client, "hang")
        old = two.kill("ada.radio")
        await asyncio.to_thread(two.until_reborn, "ada.radio", old)
        await found(client, "oracle").release()
        await asyncio.gather(*held)

    for name in ("ada", "max"):
        heard = (two.folder / f"{name}.txt").read_text().splitlines()
        assert heard == [f"r: You are {name}.", "r: You wrote: hang"]


async def test_an_event_of_an_agents_platform_is_answered_by_that_agent(two: Host) -> None:
    """The platform that emits the event determines the agent."""
    async with two.connect() as client:
        await found(client, "max.radio").tell("who", "1")

    assert (two.folder / "max.txt").read_text().splitlines() == ["r: You are max."]
    assert not (two.folder / "ada.txt").exists()


async def test_an_event_of_everybodys_platform_is_answered_once(tmp_path: Path) -> None:
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
