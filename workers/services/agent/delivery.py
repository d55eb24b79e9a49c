"""Send one part of an answer to its room, and return what became of it."""

from typing import Any

import msgspec

from garrison.ipc import (
    Busy,
    CallError,
    CallTimeout,
    GarrisonError,
    NotSent,
    Overloaded,
    RetryLater,
    ServiceLost,
    ServiceUnavailable,
)
from garrison.workers import Memory, Runtime, Sent, TargetInfo

from .record.rows import Outcome

NO_SENDER = ("not configured", "without a method send_message")  # `ServiceUnavailable.state` then
SEND = "send_message"
RETRY_S = 1.0  # before a posted message is delivered again because its platform does not run


class Delivered(msgspec.Struct, frozen=True):
    """What became of a part, the platform's ids of it, and the error text."""

    outcome: Outcome
    ids: list[str] = []
    problem: str = ""


class Sender(msgspec.Struct, frozen=True):
    """What is known of the service that sends for a source."""

    exists: bool
    repeats: bool  # it may be called again with the same part


def sender_of(runtime: Runtime, source: str, room: str) -> Sender:
    """Return what is known of the service that sends for a source, without calling it."""
    if not source or not room:
        return Sender(False, False)
    directory = runtime.client.directory
    entry = directory.find_source(source, runtime.client.agent)
    if entry is not None and entry.manifest.platform:
        return Sender(True, True)
    if any(
        source in other.manifest.sends_for for other in directory.visible_to(runtime.client.agent)
    ):
        return Sender(True, False)
    methods = () if entry is None else entry.manifest.methods
    found = [info.idempotent for info in methods if info.name == SEND]
    return Sender(bool(found), any(found))


async def send(
    runtime: Runtime, part: Memory, timeout: float, *, expect: bool, posted: bool
) -> Delivered:
    """Send a part through the service that received the message.

    The call waits while that service restarts. If the service is lost during the call, the part is
    not sent again, unless it is a `Platform` or its `send_message` is `@idempotent`.

    Args:
        runtime: The agent's.
        part: Its `content.source` and `room_id` are the destination.
        timeout: Seconds.
        expect: It may have been sent before: a `Platform` is queried first.
        posted: The message is delivered again after an error.

    Raises:
        RetryLater: A posted message's part could not be sent now, or perhaps was, and is to be
            sent again.
    """
    source, room = part.content.source, part.room_id
    sender = sender_of(runtime, source, room)
    if not source or not room:
        return Delivered(Outcome.NO_SENDER)
    target = TargetInfo(source, channel_id=room, room_id=room)
    try:
        sent = await runtime.send_message_to_target(
            target, part.content, timeout, id=part.id, expect=expect
        )
    except (ServiceLost, CallTimeout) as error:
        if posted and sender.repeats:
            raise RetryLater(RETRY_S, str(error)) from error
        text = f"{error}; it may have been sent, so it is not sent again"
        return Delivered(Outcome.UNCERTAIN, problem=text)
    except (ServiceUnavailable, Overloaded, Busy, RetryLater) as error:
        if isinstance(error, ServiceUnavailable) and error.state.startswith(NO_SENDER):
            return Delivered(Outcome.NO_SENDER)
        if posted:
            raise RetryLater(_seconds(error), str(error)) from error
        return Delivered(Outcome.REFUSED, problem=str(error))
    except NotSent as error:
        return Delivered(Outcome.REFUSED, problem=error.reason or str(error))
    except (CallError, GarrisonError) as error:
        return Delivered(Outcome.REFUSED, problem=str(error))
    return _delivered(sent)


def _seconds(error: CallError) -> float:
    match error:
        case RetryLater(seconds=seconds):
            return float(seconds)
        case Busy(retry_after=float(seconds)):
            return seconds
        case _:
            return RETRY_S


def _delivered(returned: Any) -> Delivered:
    """Convert the sender's result: `Sent` of a `Platform`, or anything."""
    try:
        sent = msgspec.convert(returned, Sent, from_attributes=True)
    except (msgspec.ValidationError, TypeError):
        ids = [returned] if isinstance(returned, str) and returned else []
        return Delivered(Outcome.SENT, ids)
    if sent.outcome == "sent":
        return Delivered(Outcome.SENT, sent.ids)
    return Delivered(Outcome.UNCERTAIN, sent.ids, "the platform does not know whether it was sent")
