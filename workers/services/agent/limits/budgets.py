"""Budgets of the use of models: per agent, room, person and task, for a day. Pure.

A use is reserved before, and settled after. What is spent and reserved together is never more than
a limit, unless a provider takes more tokens than were reserved. Money is counted in millionths of
the config's currency. Days are numbers since the epoch, UTC; `now` is monotonic seconds.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Literal, NamedTuple

import msgspec

from garrison.workers import Attribution

MICROS = 1_000_000  # parts of the currency's unit
ANSWER_LEAST = 64  # tokens: a use that may write less is refused, unless it wants less
LEASE_S = 900.0  # a reservation that is not settled by then is counted in full
OPEN_MOST = 10_000  # reservations at a time
TYPES_MOST = 64  # types of models whose price is known
OTHERS = b"others"  # stands for all that there is no row for

Digest = bytes
Tokens = Annotated[int, msgspec.Meta(ge=0)]
Money = Annotated[float, msgspec.Meta(ge=0)]


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What may be used in one day (UTC); 0 is no limit."""

    tokens_per_day: Tokens = 0
    cost_per_day: Money = 0.0  # in the currency of the providers' `prices`


class BudgetConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`budget`: limits of the use of models, and what is done at a limit."""

    tokens_per_day: Tokens = 0
    cost_per_day: Money = 0.0
    per_room: Limit = Limit()
    per_person: Limit = Limit()
    per_task: Limit = Limit()
    at_limit: Literal["degrade", "pause", "say"] = "say"
    degrade_at: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.8  # part of a limit

    @property
    def limits(self) -> dict["Scope", Limit]:
        """Return the limits that there are."""
        every = {
            Scope.AGENT: Limit(self.tokens_per_day, self.cost_per_day),
            Scope.ROOM: self.per_room,
            Scope.PERSON: self.per_person,
            Scope.TASK: self.per_task,
        }
        return {scope: limit for scope, limit in every.items() if limit != Limit()}


class Scope(StrEnum):
    """Whose budget it is; the value is its key in the config."""

    AGENT = "budget"
    ROOM = "per_room"
    PERSON = "per_person"
    TASK = "per_task"


class Key(NamedTuple):
    """One budget."""

    scope: Scope
    id: Digest = b""  # of a room, a person or a task


class Row(msgspec.Struct):
    """What the day has used of one budget."""

    tokens: int = 0
    micros: int = 0
    tokens_reserved: int = 0
    micros_reserved: int = 0
    told: bool = False  # that it is used up


class Request(msgspec.Struct, frozen=True):
    """What a use of a model wants."""

    read: int  # tokens
    written: int  # tokens that it may write; 0: it writes no text
    can_shrink: bool  # a smaller model can answer
    model_type: str = ""


class Reserved(msgspec.Struct, frozen=True):
    """A reservation."""

    id: str
    keys: tuple[Key, ...]
    tokens: int
    micros: int
    written: int  # tokens that may be written
    smaller: bool  # by the smaller model
    model_type: str
    day: int
    due: float


class Refused(msgspec.Struct, frozen=True):
    """There is no room for a use."""

    scope: Scope


class Budgets:
    """The budgets of one agent.

    Args:
        config: Its limits.
        most: Rows for rooms, persons and tasks each; further ones share one.
        day: The day of `rows`.
        rows: What an earlier process has used. What it had reserved counts as used: how much of
            it was, is not known.
    """

    def __init__(
        self, config: BudgetConfig, most: int, day: int = 0, rows: Mapping[Key, Row] | None = None
    ) -> None:
        self._limits, self._most = config.limits, most
        self._degrades = config.degrade_at if config.at_limit == "degrade" else None
        self.day, self._number = day, 0
        self.rows: dict[Key, Row] = {}
        self._counts = dict.fromkeys(Scope, 0)  # rows of each scope
        self.open: dict[str, Reserved] = {}
        # The most that a token of a model type has cost: what a use costs is known after it.
        self._prices: dict[str, int] = {}
        for key, row in (rows or {}).items():
            tokens, micros = row.tokens + row.tokens_reserved, row.micros + row.micros_reserved
            self._add_row(key, Row(tokens, micros, told=row.told))

    # --- uses -------------------------------------------------------------------------------

    def reserve(
        self, attribution: Attribution, request: Request, day: int, now: float
    ) -> Reserved | Refused:
        """Reserve a use, or return whose budget has no room for it. `settle` must follow.

        Args:
            attribution: The answer that it is for.
            request: What it wants.
            day: The present day.
            now: Monotonic seconds.
        """
        self.begin(day)
        self.expire(now)
        keys = self._keys(attribution)
        part = self._degrades
        if part is not None and request.can_shrink:
            written, _ = self._room(keys, request, part)
            if written >= request.written:
                return self._reserve(keys, request, written, False, now)
        written, scope = self._room(keys, request, 1.0)
        wanted = min(request.written, ANSWER_LEAST)
        if written < wanted or scope is not None:
            return Refused(scope or Scope.AGENT)
        if len(self.open) >= OPEN_MOST:
            return Refused(Scope.AGENT)
        smaller = part is not None and request.can_shrink
        return self._reserve(keys, request, written, smaller, now)

    def settle(self, id: str, tokens: int | None, micros: int | None) -> tuple[Key, ...]:
        """Count what a use has taken; return the budgets that this changed.

        Args:
            id: The reservation's. A second settlement of it changes nothing.
            tokens: None: not known, so what was reserved counts.
            micros: None: not known; then what was reserved counts if the tokens are not known
                either, otherwise nothing.
        """
        reserved = self.open.pop(id, None)
        if reserved is None or reserved.day != self.day:
            return ()
        if micros is None:
            micros = reserved.micros if tokens is None else 0
        tokens = reserved.tokens if tokens is None else tokens
        self._note_price(reserved.model_type, tokens, micros)
        for key in reserved.keys:
            row = self.rows[key]
            row.tokens_reserved -= reserved.tokens
            row.micros_reserved -= reserved.micros
            row.tokens += max(tokens, 0)
            row.micros += max(micros, 0)
        return reserved.keys

    def begin(self, day: int) -> bool:
        """Begin a later day: every budget is new. A clock that is set back renews none."""
        if day <= self.day:
            return False
        self.day = day
        self.rows, self._counts = {}, dict.fromkeys(Scope, 0)
        self.open = {}
        return True

    def expire(self, now: float) -> None:
        """Count reservations in full whose process seems to have ended."""
        for id, reserved in list(self.open.items()):
            if reserved.due > now:
                break  # they are in the order of their times
            self.settle(id, None, None)

    def tell(self, attribution: Attribution, scope: Scope) -> Key | None:
        """Note that a sender is told that a budget is used up; None if that was told before.

        What the agent's own budget ends is told in each room.
        """
        if scope is Scope.AGENT:
            key = self._known(Key(scope, digest(attribution.source, attribution.room)))
        else:
            key = next(one for one in self._keys(attribution) if one.scope is scope)
        row = self.rows[key]
        if row.told:
            return None
        row.told = True
        return key

    def left(self, scope: Scope = Scope.AGENT, id: Digest = b"") -> tuple[int | None, float | None]:
        """Return the tokens and the money that are left of a budget; None without a limit."""
        limit, row = self._limits.get(scope, Limit()), self.rows.get(Key(scope, id), Row())
        tokens = max(limit.tokens_per_day - row.tokens, 0) if limit.tokens_per_day else None
        money = max(limit.cost_per_day - row.micros / MICROS, 0.0) if limit.cost_per_day else None
        return tokens, money

    def used_ratio(self) -> float | None:
        """Return how much of the agent's own budget is used, from 0 to 1; None without a limit."""
        limit, row = self._limits.get(Scope.AGENT, Limit()), self.rows.get(Key(Scope.AGENT), Row())
        used = (row.tokens, limit.tokens_per_day), (row.micros / MICROS, limit.cost_per_day)
        ratios = [min(part / whole, 1.0) for part, whole in used if whole]
        return max(ratios, default=None)

    # --- parts ------------------------------------------------------------------------------

    def _keys(self, attribution: Attribution) -> tuple[Key, ...]:
        """Return the budgets that a use counts for, each with a row."""
        source = attribution.source
        ids = {
            Scope.AGENT: (b"", True),
            Scope.ROOM: (digest(source, attribution.room), bool(attribution.room)),
            Scope.PERSON: (digest(source, attribution.person), bool(attribution.person)),
            Scope.TASK: (digest(attribution.task), bool(attribution.task)),
        }
        wanted = [Key(scope, ids[scope][0]) for scope in self._limits if ids[scope][1]]
        return tuple(map(self._known, wanted))

    def _known(self, key: Key) -> Key:
        """Return a key with a row: its own, or that of all others."""
        if key not in self.rows and self._counts[key.scope] >= self._most:
            key = Key(key.scope, OTHERS)
        if key not in self.rows:
            self._add_row(key, Row())
        return key

    def _add_row(self, key: Key, row: Row) -> None:
        self.rows[key] = row
        self._counts[key.scope] += 1

    def _room(self, keys: Iterable[Key], request: Request, part: float) -> tuple[int, Scope | None]:
        """Return how many tokens may be written, and whose budget has no room for a request."""
        written, full = request.written, None
        price = self._prices.get(request.model_type, 0)
        for key in keys:
            limit, row = self._limits[key.scope], self.rows[key]
            most = math.inf
            if limit.tokens_per_day:
                allowed = int(limit.tokens_per_day * part)
                most = allowed - row.tokens - row.tokens_reserved
            if limit.cost_per_day:
                money = int(limit.cost_per_day * part * MICROS) - row.micros - row.micros_reserved
                if money <= 0:
                    most = -1
                elif price:
                    most = min(most, money // price)
            left = most - request.read
            least = min(request.written, ANSWER_LEAST)
            if left < least and full is None:
                full = key.scope
            written = min(written, max(int(left), 0)) if left < written else written
        return written, full

    def _reserve(
        self, keys: tuple[Key, ...], request: Request, written: int, smaller: bool, now: float
    ) -> Reserved:
        self._number += 1
        tokens, model_type = request.read + written, request.model_type
        micros = tokens * self._prices.get(model_type, 0)
        id, due = str(self._number), now + LEASE_S
        reserved = Reserved(id, keys, tokens, micros, written, smaller, model_type, self.day, due)
        self.open[reserved.id] = reserved
        for key in keys:
            row = self.rows[key]
            row.tokens_reserved += reserved.tokens
            row.micros_reserved += reserved.micros
        return reserved

    def _note_price(self, model_type: str, tokens: int, micros: int) -> None:
        if tokens > 0 and (model_type in self._prices or len(self._prices) < TYPES_MOST):
            price = math.ceil(micros / tokens)
            self._prices[model_type] = max(self._prices.get(model_type, 0), price)


def digest(*ids: str) -> Digest:
    """Return an id of constant size: the file of budgets has no person's own."""
    text = "".join(f"{len(one)}:{one}" for one in ids)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
