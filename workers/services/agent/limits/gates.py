"""Call the gates of all plugins with a message, concurrently; `verdict` is pure."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from garrison.ipc import CallError
from garrison.workers import Memory, Refusal, Runtime

OnFailure = Literal["pass", "refuse"]  # the config's `gate_failure`


class Gated(msgspec.Struct, frozen=True):
    """The result of one gate."""

    plugin: str
    refusal: Refusal | None = None
    problem: str = ""  # why it could not be called


class Verdict(msgspec.Struct, frozen=True):
    """What becomes of a message."""

    refused_by: str = ""  # NAME of a plugin; "" lets the message pass
    text: str | None = None  # what is sent; None: the text for when the agent cannot answer
    reason: str = ""
    problems: Mapping[str, str] = {}  # NAME of a plugin whose gate could not be called → why


def verdict(gated: Sequence[Gated], on_failure: OnFailure) -> Verdict:
    """Return what becomes of a message.

    A gate that refuses counts for more than one that failed. Of several the first one in config
    order decides what is sent.
    """
    problems = {one.plugin: one.problem for one in gated if one.problem}
    for one in gated:
        if one.refusal is not None:
            return Verdict(one.plugin, one.refusal.text, one.refusal.reason, problems)
    if not problems or on_failure == "pass":
        return Verdict(problems=problems)
    plugin, problem = next(iter(problems.items()))
    return Verdict(plugin, None, f"its gate cannot be called: {problem}", problems)


async def call_gates(
    runtime: Runtime, memory: Memory, timeout: float, on_failure: OnFailure
) -> Verdict:
    """Call all gates with a message.

    With "pass", a gate is left out like other parts of a plugin that does not run or was late
    twice. With "refuse", it has until the timeout to run again.

    Args:
        runtime: The agent's.
        memory: The message.
        timeout: Seconds for each.
        on_failure: What becomes of a message if a gate cannot be called and no other refuses it.
    """

    async def check(gate: Any) -> Gated:
        optional = on_failure == "pass"
        try:
            refusal = await gate.check(memory, timeout=timeout, optional=optional)
            return Gated(gate.plugin, refusal)
        except CallError as error:
            return Gated(gate.plugin, problem=str(error))

    return verdict(await asyncio.gather(*map(check, runtime.gates)), on_failure)
