"""Commands for a backup: hold stops the services' processes for a moment, release ends that."""

import time
from collections.abc import Generator

from garrison.ipc.messages import Order, Token
from garrison.supervisor.lifecycle.actions import Action

from .base import STOPPING, AnswerNow, Command, CommandContext, Refusal, command, option

STOPPING_SHARE = 0.3  # of a hold, for all processes to stop
TRIES = 3
NOT_STILL = "a process of a service does not stop, as if its disk did not answer: try again"


@command()
def hold(context: CommandContext, peer: Token, order: Order) -> Command:
    """Stop the processes of all services, at once answered; they go on after `seconds` at most."""
    if context.held:
        raise Refusal("failed", "another backup is being made just now: try again in a moment")
    if context.is_stopping():
        raise Refusal("failed", STOPPING)
    seconds = min(max(option(order, "seconds", float, 1.0), 0.0), context.held.longest())
    try:
        began, names = yield from _stopped(context, seconds)
        yield AnswerNow({"held": names, "seconds": seconds})
        while context.held and time.monotonic() < began + seconds:
            yield False
    finally:
        if context.held:  # its client was too slow, or is gone
            context.held.resume()
            context.log.record("backup.held_too_long", seconds=round(seconds, 3))


def _stopped(
    context: CommandContext, seconds: float
) -> Generator[bool | Action | AnswerNow, None, tuple[float, list[str]]]:
    """Stop all processes; return when that was begun, and the NAMEs of their services."""
    for _ in range(TRIES):
        began = time.monotonic()
        names = context.held.stop()
        while time.monotonic() < began + seconds * STOPPING_SHARE:
            if context.held.are_still():
                return began, names
            yield False
        context.held.resume()  # one may wait for another that is stopped, as when it starts it
        yield False
    raise Refusal("failed", NOT_STILL)


@command()
def release(context: CommandContext, peer: Token, order: Order) -> Command:
    """Have the services that are held go on; return what happened to them meanwhile."""
    if not context.held:
        raise Refusal("failed", "the services went on before their files were copied")
    return {"disturbed": context.held.resume()}
    yield False
