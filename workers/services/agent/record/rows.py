"""What the agent records of a message and its answer. Pure. Times are seconds since the epoch."""

from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from garrison.workers import ActionResult, Content, Memory

FAILURE = -1  # the step of the part with the text that the agent cannot answer


class MessageKey(NamedTuple):
    """Which message: platforms may use the same ids, and responses may be given for one that was
    answered before."""

    source: str
    room: str
    id: str
    given: str = ""  # a hash of the responses that the caller gave


class MessageState(StrEnum):
    """How far a message's answer is."""

    DECIDING = "deciding"  # nothing was run or sent
    DECIDED = "decided"
    DONE = "done"
    FAILED = "failed"  # nothing could be answered; the failure's text was, unless it is silent
    EXPIRED = "expired"  # too old when its turn came
    DROPPED = "dropped"  # by a limit, or by a plugin's gate


UNFINISHED = (MessageState.DECIDING, MessageState.DECIDED)


class StepKind(StrEnum):
    """What a step of the answer does."""

    SAY = "say"  # send a given response
    RUN = "run"  # run an action
    REPLY = "reply"  # generate a response with a model, and send it
    UNKNOWN = "unknown"  # a name that no action has: nothing


class StepState(StrEnum):
    """How far a step is."""

    PLANNED = "planned"
    STARTED = "started"  # its effects may have happened
    ENDED = "ended"
    INTERRUPTED = "interrupted"  # its process ended during it, and it may not run again


class PlannedStep(msgspec.Struct):
    """One step of an answer."""

    number: int  # from 0
    kind: StepKind
    name: str = ""  # of the action
    content: Content | None = None  # of a given response
    otherwise: bool = False  # only if no step before it succeeded
    state: StepState = StepState.PLANNED
    results: list[ActionResult] = []
    started_at: float | None = None
    ended_at: float | None = None
    for_reply: bool = False  # its result is for the model, which replies after it


class Outcome(StrEnum):
    """What became of a part that was to be sent."""

    SENT = "sent"
    UNCERTAIN = "uncertain"  # perhaps sent; not repeated
    REFUSED = "refused"  # not sent, for good
    NO_SENDER = "no sender"  # no service sends for its source: only the caller receives it
    EMPTY = "empty"  # it has nothing to send


class Part(msgspec.Struct):
    """One response. It is recorded before it is sent."""

    number: int  # from 0
    step: int  # the number of the step that it comes from, or `FAILURE`
    memory: Memory  # its `id` is the part's
    outcome: Outcome | None = None  # None: not sent yet, or perhaps
    ids: list[str] = []  # the platform's own, one for each message; "" where that is uncertain
    problem: str = ""
    recorded_at: float = 0.0
    ended_at: float | None = None


class ModelUse(msgspec.Struct):
    """One use of a model."""

    model_type: str
    service: str = ""  # NAME of the service that answered; "" if all failed
    errors: dict[str, str] = {}  # NAME of each service that failed before it, and its error
    seconds: float = 0.0
    tokens: dict[str, int] = {}  # as the service counts them, if it does


class PlannedCall(msgspec.Struct):
    """One call of an action that the model decided on."""

    step: int  # the number of its step
    tool: str  # the action's name as the model has it
    arguments: dict[str, Any] = {}
    problem: str = ""  # why it is not run
    has_arguments: bool = True  # False: the model could not fill in any


class Round(msgspec.Struct):
    """One decision of a model that is offered actions as tools. Results are in the steps."""

    text: str = ""  # beside the calls; it is not sent
    calls: list[PlannedCall] = []
    is_last: bool = False  # the model is not called again


class Why(msgspec.Struct):
    """Why the answer is what it is."""

    how: str = ""  # "responses", "validate", "model", "own message", or what stopped the answer
    considered: dict[str, bool] = {}  # action, and whether it applies
    providers: list[str] = []  # of context
    context: str = ""  # what they gave, bounded
    models: list[ModelUse] = []
    problem: str = ""  # what failed
    end: MessageState | None = None  # the state that it ends in, if there is no answer
    prompt: str = ""  # only if the config wants values recorded
    rounds: list[Round] = []  # where the model chose, and filled in parameters
    trace: str = ""  # the id of the trace that shows it


class Record(msgspec.Struct):
    """One message and its answer so far."""

    key: MessageKey
    memory: Memory
    heard_at: float
    posted: bool = False  # through the mailbox, which delivers it again until it is finished
    state: MessageState = MessageState.DECIDING
    why: Why = msgspec.field(default_factory=Why)
    decided_at: float | None = None
    done_at: float | None = None
    steps: list[PlannedStep] = []
    parts: list[Part] = []
    seq: int = 0  # in the order in which messages were recorded


def call_of(record: Record, step: int) -> PlannedCall | None:
    """Return the call that a step runs; None if no model called it."""
    calls = (call for one in record.why.rounds for call in one.calls)
    return next((call for call in calls if call.step == step), None)
