"""Whether a platform that was moved to another version receives, as `garrison probe` does."""

import asyncio
import time
from pathlib import Path
from typing import Any

from garrison.ipc import connect
from garrison.ipc.errors import GarrisonError

LINK_S = 60.0  # for a platform to connect and to see traffic
LOOK_S = 0.5
METHOD = "check_link"


class LinkProblem(GarrisonError):
    """A platform runs, and does not receive."""


def check_link(home: Path, name: str) -> None:
    """Return once a platform's probe has seen traffic; at once for one without a probe.

    Raises:
        LinkProblem: It has seen none in time.
    """
    if problem := asyncio.run(_until_received(home, name)):
        raise LinkProblem(f"{name} runs and does not receive: {problem}")


async def _until_received(home: Path, name: str) -> str:
    until, problem = time.monotonic() + LINK_S, ""
    while True:
        left = max(until - time.monotonic(), LOOK_S)
        try:
            async with connect(home) as client:
                found: dict[str, Any] = await client.call_method(
                    name, METHOD, (), dict[str, Any], left
                )
            problem = found["disconnected"] or found["deaf"] or ""
            if not problem and (found["last_alive_s"] is not None or not found["has_probe"]):
                return ""
            if found["disconnected"]:
                return problem
            problem = problem or "its probe has seen no traffic"
        except GarrisonError as error:
            problem = str(error)
        if time.monotonic() + LOOK_S >= until:
            return problem  # the next look would come too late
        await asyncio.sleep(LOOK_S)
