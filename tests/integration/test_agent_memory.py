"""The agent's file over kills, restarts and a database that comes and goes, with real workers."""

import asyncio
from typing import Any

from tests.support.host import Host, Hosting, found
from tests.support.waiting import until

CONFIG = """
[plugins.agent]
[plugins.eliza]
[defaults]
intensity = 0
"""
SHELF = "[plugins.shelf]\n"
ROOMS = ("north", "south")
LINES = 8


def message(room: str, number: int) -> dict[str, Any]:
    """Return a message; sent again, it is the same one."""
    content = {"text": f"line {number}", "source": "nowhere"}
    return {"id": f"{room}-{number}", "content": content, "room_id": room, "entity_id": "ada"}


async def converse(host: Host) -> None:
    """Send lines to two rooms at once, and kill the agent in the middle of some."""
    async with host.connect() as client:
        agent = found(client, "agent")
        for number in range(LINES):
            answers = [agent.process_actions(message(room, number)) for room in ROOMS]
            if number % 4 == 1:
                host.until_reborn("agent", host.kill("agent"))
            for answer in await asyncio.gather(*answers):
                assert len(answer["responses"]) == 1


def remembered(host: Host, service: str = "agent") -> dict[str, list[str]]:
    """Return the ids of what is remembered of each room."""

    async def read() -> dict[str, list[str]]:
        async with host.connect() as client:
            one = found(client, service)
            rows = {room: await one.get_memories(room_id=room) for room in ROOMS}
            return {room: [row["id"] for row in found] for room, found in rows.items()}

    return asyncio.run(read())


def test_nothing_is_forgotten_over_kills_restarts_and_databases(host: Hosting) -> None:
    """What was answered is remembered, once. A database takes it over, and then it alone answers;
    without it the file is used again, and its log says what it lacks."""
    one = host(CONFIG, plugins=["shelf"])
    asyncio.run(converse(one))
    before = remembered(one)
    for room, ids in before.items():
        assert {f"{room}-{number}" for number in range(LINES)} < set(ids)
        assert len(ids) == len(set(ids)) == 2 * LINES

    one.write("config.toml", CONFIG + SHELF)
    one.restart()
    number = sum(map(len, before.values()))
    until(lambda: f"memory.handed_over database=database memories={number}" in one.log("agent"))
    assert remembered(one) == remembered(one, "database") == before
    one.restart()  # what the file says of itself is not about a database that is only starting
    assert remembered(one) == before
    assert "memory.file_used_again" not in one.log("agent")

    one.write("config.toml", CONFIG)
    one.restart()
    until(lambda: "memory.file_used_again database=database" in one.log("agent"))
    assert remembered(one) == {room: [] for room in ROOMS}
