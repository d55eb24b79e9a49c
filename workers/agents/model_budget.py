"""The budgets of an answer's agent: a use of a model is reserved before, and settled after.

What a use needs is estimated from its parameters; that part is pure. The agent keeps the budgets:
in its own process directly, from other processes by calls to it.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from garrison.ipc.call_context import ATTRIBUTION
from garrison.ipc.client import Client
from garrison.ipc.errors import CallError
from garrison.ipc.messages import Attribution

from .model_trace import Counted
from .models import OBJECT_TYPES, TEXT_TYPES, ModelType, ModelUnavailable

log = logging.getLogger(__name__)

WRITES = 1024  # tokens that a request may write, if it sets no number
BYTES_PER_TOKEN = 3  # of UTF-8, at most, about: fewer tokens are settled
IMAGE_TOKENS = 1_000  # of an image that is shown, about
KEEPER_S = 5.0  # for the agent to answer
SMALLER = {
    ModelType.TEXT_LARGE: ModelType.TEXT_SMALL,
    ModelType.OBJECT_LARGE: ModelType.OBJECT_SMALL,
    ModelType.TEXT_REASONING_LARGE: ModelType.TEXT_REASONING_SMALL,
}


class BudgetNeed(msgspec.Struct, frozen=True):
    """What a use of a model needs, about."""

    model_type: str
    read: int = 0  # tokens
    written: int = 0  # tokens that it may write; 0: it writes no text
    can_shrink: bool = False  # a smaller model can answer

    @property
    def tokens(self) -> int:
        """Return all of them."""
        return self.read + self.written


class BudgetGrant(msgspec.Struct, frozen=True):
    """An answer to a need. Without an `id` it is refused."""

    id: str = ""
    written: int = 0  # tokens that it may write
    smaller: bool = False  # by the smaller model
    limit: str = ""  # where it is refused: what is used up, such as "per_person"
    seconds: float = 0.0  # until there is a new budget


class BudgetSpent(ModelUnavailable):
    """A budget of the agent is used up, so no provider was called.

    Nothing needs to be repeated before `seconds` are over.

    Attributes:
        limit: What is used up: "budget", "per_room", "per_person" or "per_task".
        seconds: Until the next day.
    """

    def __init__(self, model_type: str, grant: BudgetGrant) -> None:
        self.limit, self.seconds = grant.limit, grant.seconds
        hours = grant.seconds / 3600
        super().__init__(model_type, f"{grant.limit} is used up; a new one begins in {hours:.1f} h")


class Keeper(Protocol):
    """Keeps an agent's budgets."""

    async def reserve_use(self, attribution: Attribution, need: BudgetNeed) -> BudgetGrant:
        """Reserve a use; `settle_use` must follow."""
        ...

    async def settle_use(self, id: str, tokens: int | None, cost: float | None) -> None:
        """Count what a use has taken; None counts what was reserved."""
        ...


class Use(msgspec.Struct, frozen=True):
    """A use of a model, as it may be made."""

    model_type: str
    params: Any
    taken: "Taken"


class Taken:
    """What a use has taken. Without an answer that is nothing, as after a failure.

    Attributes:
        tokens: None: it is not known.
        cost: None: its providers do not know.
    """

    def __init__(self, model_type: str) -> None:
        self._writes = model_type in TEXT_TYPES or model_type in OBJECT_TYPES
        self._reads = self._writes or model_type == ModelType.TEXT_EMBEDDING
        self.tokens: int | None = 0
        self.cost: float | None = None

    def add(self, counted: Counted, params: Any) -> None:
        """Add an answer; one of a provider that does not count its tokens is estimated."""
        kinds, tokens = counted.tokens, 0
        if kinds:
            tokens = kinds.get("input", 0) + kinds.get("output", 0)
        elif self._reads:
            tokens = tokens_of(params) + (tokens_of(counted.output) if self._writes else 0)
        self.tokens = (self.tokens or 0) + tokens
        if counted.cost is not None:
            self.cost = (self.cost or 0.0) + counted.cost

    def add_stream(self, params: Any, characters: int) -> None:
        """Add a streamed text: its tokens do not come back with it, so they are estimated."""
        read, written = tokens_of(params), characters // BYTES_PER_TOKEN + 1
        self.add(Counted("", {"input": read, "output": written}), params)


_KEEPER: ContextVar[Keeper | None] = ContextVar("garrison_budget_keeper", default=None)


def set_attribution(attribution: Attribution | None, keeper: Keeper | None = None) -> None:
    """Count what this task does from now on for an answer; None: for none.

    Args:
        attribution: The answer's.
        keeper: Keeps its budgets, if that is this process.
    """
    ATTRIBUTION.set(attribution)
    _KEEPER.set(keeper)


@asynccontextmanager
async def budgeted(client: Client, model_type: str, params: Any) -> AsyncIterator[Use]:
    """Reserve a use of a model for the answer that it is a part of; settle it at the end.

    Args:
        client: The caller's.
        model_type: The requested type.
        params: The parameters.

    Raises:
        BudgetSpent: There is no budget left for it.
        ModelUnavailable: The agent that keeps the budget does not answer.
    """
    attribution, taken = ATTRIBUTION.get(), Taken(model_type)
    if attribution is None or not attribution.keeper:
        yield Use(model_type, params, taken)
        return
    keeper = _KEEPER.get() or _RemoteKeeper(client, attribution.keeper)
    need = need_of(model_type, params)
    grant = await keeper.reserve_use(attribution, need)
    if not grant.id:
        raise BudgetSpent(model_type, grant)
    try:
        yield Use(*granted(need, grant, params), taken)
    except (GeneratorExit, asyncio.CancelledError):  # it was left: nothing counted it
        taken.tokens = taken.cost = None
        raise
    finally:
        await keeper.settle_use(grant.id, taken.tokens, taken.cost)


class _RemoteKeeper:
    """The budgets that another process keeps."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    async def reserve_use(self, attribution: Attribution, need: BudgetNeed) -> BudgetGrant:
        args = (attribution, need)
        try:
            grant: BudgetGrant = await self._client.call_method(
                self._name, "reserve_use", args, BudgetGrant, KEEPER_S
            )
        except CallError as error:
            reason = f"the budget at {self._name} cannot be reserved: {error}"
            raise ModelUnavailable(need.model_type, reason) from error
        return grant

    async def settle_use(self, id: str, tokens: int | None, cost: float | None) -> None:
        try:
            await self._client.call_method(
                self._name, "settle_use", (id, tokens, cost), None, KEEPER_S, idempotent=True
            )
        except CallError as error:  # the agent counts it in full once it is due
            log.warning("budget.not_settled agent=%s error=%s", self._name, error)


# --- estimates ------------------------------------------------------------------------------


def need_of(model_type: str, params: Any) -> BudgetNeed:
    """Return what a use of a model needs; of others than those of text the tokens are not known."""
    if model_type in TEXT_TYPES or model_type in OBJECT_TYPES:
        wanted = _field(params, "max_tokens")
        written = wanted if isinstance(wanted, int) and wanted > 0 else WRITES
        return BudgetNeed(model_type, _sent(params), written, model_type in SMALLER)
    if model_type == ModelType.TEXT_EMBEDDING:
        return BudgetNeed(model_type, tokens_of(params))
    return BudgetNeed(model_type, 1)


def granted(need: BudgetNeed, grant: BudgetGrant, params: Any) -> tuple[str, Any]:
    """Return the model type and the parameters of a use that is granted."""
    model_type = SMALLER.get(need.model_type, need.model_type) if grant.smaller else need.model_type
    if not need.written:
        return model_type, params
    changes: dict[str, Any] = {"max_tokens": grant.written}
    if grant.smaller and _field(params, "model") is not None:
        changes["model"] = None  # it names the larger one
    if isinstance(params, Mapping):
        return model_type, {**params, **changes}
    if isinstance(params, msgspec.Struct):
        return model_type, msgspec.structs.replace(params, **changes)
    return model_type, {"prompt": params or "", **changes}


def tokens_of(value: Any) -> int:
    """Return about how many tokens the texts of a value are; data in images is not counted."""
    return _bytes(value) // BYTES_PER_TOKEN + 1


def _sent(params: Any) -> int:
    images = 0
    for message in _field(params, "messages") or ():
        images += len(message.get("attachments") or ()) if isinstance(message, Mapping) else 0
    return tokens_of(params) + IMAGE_TOKENS * images


def _bytes(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        kept = [item for item in value.items() if item[0] != "attachments"]
        return sum(_bytes(key) + _bytes(one) for key, one in kept)
    if isinstance(value, list | tuple):
        return sum(map(_bytes, value))
    if isinstance(value, msgspec.Struct):
        return sum(_bytes(getattr(value, name)) for name in value.__struct_fields__)
    return 1 if isinstance(value, int | float) else 0


def _field(params: Any, name: str) -> Any:
    return params.get(name) if isinstance(params, Mapping) else getattr(params, name, None)
