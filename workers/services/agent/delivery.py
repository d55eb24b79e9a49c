"""Saying something in a room, once: what came of it, told apart by how the sending ended."""

from enum import Enum
from typing import NamedTuple

from garrison.ipc import (
    CallError,
    CallTimeout,
    GarrisonError,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers import Memory, Runtime, TargetInfo

NO_SENDER = ("not configured", "without a method send_message")  # states of such a source


class SendOutcome(Enum):
    """What became of a response."""

    SAID = "said"
    RETURNED = "returned"  # to who asked, alone: nobody sends messages for its source
    DOUBTFUL = "doubtful"  # lost or late in mid-call; perhaps said, so never said again
    FAILED = "failed"  # not said


class Spoken(NamedTuple):
    """What became of a response, and the sentence on what went wrong."""

    fate: SendOutcome
    problem: str = ""


async def say(runtime: Runtime, response: Memory, timeout: float) -> Spoken:
    """Have a response said in its room by the service that heard the message.

    While that service is being restarted, it waits. One that is lost in mid-call is not asked
    again, unless its `send_message` is `@idempotent`, which the call itself sees to.

    Args:
        runtime: The agent's.
        response: Its `content.source` and `room_id` say where.
        timeout: Seconds.
    """
    source, room = response.content.source, response.room_id
    if not source or not room:
        return Spoken(SendOutcome.RETURNED)
    target = TargetInfo(source, channel_id=room, room_id=room)
    try:
        await runtime.send_message_to_target(target, response.content, timeout)
    except (ServiceLost, CallTimeout) as error:
        return Spoken(
            SendOutcome.DOUBTFUL, f"{error}; perhaps it was said, so it is not said again"
        )
    except ServiceUnavailable as error:
        if error.state.startswith(NO_SENDER):
            return Spoken(SendOutcome.RETURNED)
        return Spoken(SendOutcome.FAILED, str(error))
    except (CallError, GarrisonError) as error:
        return Spoken(SendOutcome.FAILED, str(error))
    return Spoken(SendOutcome.SAID)
