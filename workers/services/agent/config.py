"""What `[services.agent.config]` may say, with defaults. Durations are seconds, sizes are bytes."""

from typing import Annotated, Literal

import msgspec

from garrison.workers import ModelType

from .prompt import Sampling
from .rooms import Limits

MIB = 1024 * 1024

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Many = Annotated[int, msgspec.Meta(ge=1)]


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """How the agent answers, and how much it keeps."""

    # what it answers with
    model: str = ModelType.TEXT_LARGE
    decide: Literal["validate", "model"] = "validate"  # who says which actions are run
    conversation_length: Many = 32  # messages of the room that a model is shown
    temperature: Annotated[float, msgspec.Meta(ge=0)] | None = None  # None: as the character says
    max_tokens: Many | None = None
    stop: list[str] = []

    # how long it waits
    answer_timeout: Seconds = 120.0  # for one message, from its turn on
    provider_timeout: Seconds = 5.0  # for providers, for what validates, for the database
    action_timeout: Seconds = 60.0
    evaluator_timeout: Seconds = 30.0  # for all of them together; the room waits
    event_timeout: Seconds = 30.0

    # how much may wait
    waiting_per_room: Annotated[int, msgspec.Meta(ge=0)] = 100
    waiting: Annotated[int, msgspec.Meta(ge=0)] = 10_000
    waiting_bytes: Annotated[int, msgspec.Meta(ge=0)] = 64 * MIB
    rooms: Many = 1_000
    events: Many = 1_000  # being told

    # how much it keeps
    answered: Many = 10_000  # messages that are not answered again
    answered_bytes: Many = 64 * MIB
    memories_per_room: Many = 1_000
    memories: Many = 20_000
    memory_bytes: Many = 64 * MIB
    tasks: Many = 10_000
    task_bytes: Many = 16 * MIB
    cache: Many = 10_000
    cache_bytes: Many = 16 * MIB

    @property
    def limits(self) -> Limits:
        """Return how much may wait."""
        return Limits(self.waiting_per_room, self.waiting, self.waiting_bytes, self.rooms)

    @property
    def sampling(self) -> Sampling:
        """Return how text is to be generated, as far as it is said here."""
        return Sampling(self.temperature, self.max_tokens, tuple(self.stop))
