"""Send a response to its room once, and classify the result."""

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

NO_SENDER = ("not configured", "without a method send_message")  # `ServiceUnavailable.state` then


class SendOutcome(Enum):
    """The result of sending a response."""

    SENT = "sent"
    NO_SENDER = "no sender"  # no service sends for its source: only the caller receives it
    UNCERTAIN = "uncertain"  # the call was lost or timed out; not sent again
    FAILED = "failed"  # not sent


class SendResult(NamedTuple):
    """The result of sending a response, and the error text."""

    outcome: SendOutcome
    problem: str = ""


async def send(runtime: Runtime, response: Memory, timeout: float) -> SendResult:
    """Send a response through the service that received the message.

    The call waits while that service restarts. If the service is lost during the call, the response
    is not sent again, unless `send_message` is `@idempotent`: then the call itself repeats it.

    Args:
        runtime: The agent's.
        response: Its `content.source` and `room_id` are the destination.
        timeout: Seconds.
    """
    source, room = response.content.source, response.room_id
    if not source or not room:
        return SendResult(SendOutcome.NO_SENDER)
    target = TargetInfo(source, channel_id=room, room_id=room)
    try:
        await runtime.send_message_to_target(target, response.content, timeout)
    except (ServiceLost, CallTimeout) as error:
        return SendResult(
            SendOutcome.UNCERTAIN, f"{error}; it may have been sent, so it is not sent again"
        )
    except ServiceUnavailable as error:
        if error.state.startswith(NO_SENDER):
            return SendResult(SendOutcome.NO_SENDER)
        return SendResult(SendOutcome.FAILED, str(error))
    except (CallError, GarrisonError) as error:
        return SendResult(SendOutcome.FAILED, str(error))
    return SendResult(SendOutcome.SENT)
