"""`[services.agent.config]`: keys and defaults. Durations are seconds, sizes are bytes."""

from typing import Annotated, Literal

import msgspec

from garrison.workers import ModelType

from .character_prompt import PROMPT_MOST
from .limits.admission import Rules
from .limits.buckets import Rate
from .limits.budgets import BudgetConfig
from .limits.gates import OnFailure
from .prompt import Sampling
from .rooms import Limits

MIB = 1024 * 1024

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """How the agent answers, and its limits."""

    # the model
    model: str = ModelType.TEXT_LARGE
    fallback: bool = True  # where a provider gives no answer, the next one is called
    decide: Literal["validate", "model"] = "validate"  # how actions are chosen
    tool_rounds: Count = 4  # requests in which the model may call actions; then it answers
    conversation_length: Count = 32  # messages of the room in the prompt
    character_length: Count = PROMPT_MOST  # characters of the character in the prompt
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None  # None: the character's
    max_tokens: Count | None = None
    stop: list[str] = []

    # which messages are answered
    per_person: Rate | None = None
    per_room: Rate | None = None
    block: list[str] = []  # ids of senders and rooms; SOURCE/ID for one platform alone
    excess_text: str = "Too many messages: please wait a moment."
    excess_quiet: Seconds = 60.0  # without excess, after which the text is sent again
    answer_within: Annotated[float, msgspec.Meta(ge=0, le=31_536_000)] = 900.0  # 0: however old
    gate_failure: OnFailure = "pass"
    gate_timeout: Seconds = 5.0
    senders: Count = 10_000  # whose rates and budgets are known, and as many rooms

    # how much models are used
    budget: BudgetConfig | None = None

    # sent instead of an answer; "" sends nothing
    budget_text: str = "I have used up what I may say today."
    failure_text: str = "Sorry, I cannot answer just now."
    done_text: str = "Done."  # of a command whose action sends nothing
    interrupted_text: str = "I was interrupted during {action}; it may be done."

    # NAME of a platform, and the id of the person there who gets the news of services
    owner: dict[str, str] = {}
    owner_every: Seconds = 60.0  # between two messages to the owner; what is new is merged

    # timeouts
    answer_timeout: Seconds = 120.0  # for one message, from the start of its answer
    model_timeout: Seconds = 60.0  # for each provider of the model
    provider_timeout: Seconds = 5.0  # for providers, validation, and the database
    action_timeout: Seconds = 60.0
    evaluator_timeout: Seconds = 30.0  # for all together; the room's next message waits
    event_timeout: Seconds = 30.0

    # waiting messages
    waiting_per_room: Annotated[int, msgspec.Meta(ge=0)] = 100
    waiting: Annotated[int, msgspec.Meta(ge=0)] = 10_000
    waiting_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * MIB
    rooms: Count = 1_000
    events: Count = 1_000  # being emitted at the same time

    # the record of answers, on disk
    answers_bytes: Annotated[int, msgspec.Meta(ge=MIB)] = 1024 * MIB
    keep_answers: Annotated[float, msgspec.Meta(ge=0)] = 8 * 86_400.0  # a day more than `keep_keys`

    # answers in memory, for calls that are repeated soon
    answered: Count = 10_000
    answered_bytes: Count = 64 * MIB

    # memories, tasks and cached values, on disk
    memories_per_room: Count = 1_000
    memories: Count = 20_000
    memory_bytes: Count = 64 * MIB
    tasks: Count = 10_000
    task_bytes: Count = 16 * MIB
    cache: Count = 10_000
    cache_bytes: Count = 16 * MIB

    @property
    def limits(self) -> Limits:
        """Return the limits of waiting messages."""
        return Limits(self.waiting_per_room, self.waiting, self.waiting_bytes, self.rooms)

    @property
    def rules(self) -> Rules:
        """Return the limits of who is answered."""
        block = frozenset(self.block)
        return Rules(self.per_person, self.per_room, block, self.excess_quiet, self.senders)

    @property
    def sampling(self) -> Sampling:
        """Return the sampling parameters; None where the config sets none."""
        return Sampling(self.temperature, self.max_tokens, tuple(self.stop))
