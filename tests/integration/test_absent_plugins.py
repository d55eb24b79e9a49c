"""A plugin that does not run costs an answer nothing; a part that never answers costs two."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import PATIENCE, eventually, until

from garrison.ipc import CallError, with_timeout

# An answer that waits for a plugin that does not run fails its test: the agent's own limits are
# longer than a test may take. No timing is asserted.
CONFIG = """
[host]
starts_at_once = 8
[defaults]
start_timeout = 3600.0
[plugins]
agent = {}
crashing = { use = "absent:crashing" }
hanging = { use = "absent:hanging" }
weather = { use = "absent:weather" }
[services.agent.config]
provider_timeout = 3600.0
answer_timeout = 3600.0
evaluator_timeout = 3600.0
"""
LATE = """
[plugins]
agent = {}
late = { use = "absent:late" }
weather = { use = "absent:weather" }
[services.agent.config]
provider_timeout = 1.0
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host with a plugin that crashes in its start, one that hangs in it, and one more."""
    with hosting(CONFIG, plugins=["absent"], up=False) as host:
        host.start()
        until(host.head)
        for name, state in (("agent", "running"), ("weather", "running"), ("hanging", "starting")):
            host.wait_for(name, state)
        yield host


async def answer(host: Host, text: str, number: int, room: str = "room") -> list[str]:
    """Return the texts of the agent's answer to a new message."""
    async with host.connect() as client:
        agent = with_timeout(found(client, "agent"), PATIENCE)
        content = {"text": text}
        message = {"content": content, "id": f"m{number}", "room_id": room, "entity_id": "u"}
        done: Any = await agent.process_actions(message)
        return [one["content"]["text"] for one in done["responses"]]


async def test_an_answer_waits_for_no_plugin_that_does_not_run(running: Host) -> None:
    """Neither for one in backoff nor for one that hangs in its start, also in the second message of
    a room, which waits for the evaluators of the first."""
    before = running.status("hanging")
    running.wait_for("crashing", "backoff")

    for number in range(3):
        assert await answer(running, "how is the weather?", number) == ["It rains."]
    now = running.status("hanging")
    assert (now["state"], now["pid"]) == ("starting", before["pid"])
    log = running.log("agent")
    assert "parts.left_out service=hanging state=starting" in log
    assert log.count("parts.left_out service=hanging") == 1
    assert "parts.left_out service=crashing" in log


async def test_a_plugin_takes_part_again_once_it_runs(running: Host) -> None:
    """The agent learns of its restart a moment after the supervisor."""
    running.until_reborn("weather", running.kill("weather"))
    numbers = itertools.count(10)

    async def rains() -> bool:
        with contextlib.suppress(CallError):  # without the plugin's action there is no answer
            return await answer(running, "and the weather now?", next(numbers)) == ["It rains."]
        return False

    await eventually(rains)


async def test_a_part_that_never_answers_is_left_out_and_named_in_status() -> None:
    """After its second timeout; the plugins beside it take part."""
    expected = (
        "left out of answers for 30 s, because it timed out twice: provider LATE of late, "
        "validate of action LATE of late"
    )
    with hosting(LATE, plugins=["absent"]) as host:
        two = (answer(host, "the weather?", number, f"room {number}") for number in range(2))
        assert await asyncio.gather(*two) == [["It rains."]] * 2
        until(lambda: host.status("agent")["warnings"] == [expected])
        assert await answer(host, "the weather?", 2) == ["It rains."]
        log = host.log("agent")
        assert log.count("provider.failed provider=LATE") == 2
        assert log.count("action.not_validated action=LATE") == 2
        assert expected in " ".join(host.run("status").out.split())
