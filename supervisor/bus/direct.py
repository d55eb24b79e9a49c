"""Decides which pairs of services call each other directly, and for how long. Pure.

A grant is for one incarnation that calls and one that is called, and dies with either. The callee
gets its request first; once it listens, the caller gets the grant; the caller reports when its
calls go that way, and when it has closed the route. Times are monotonic seconds, passed
in as `now`.
"""

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

import msgspec

from garrison.ipc.messages import (
    AcceptDirect,
    DirectOpen,
    DirectRoute,
    Downward,
    GrantDirect,
    RevokeDirect,
    Token,
)

RATE = 50.0  # calls in a second, over one heartbeat, from which on a pair gets a route
IDLE_S = 60.0  # a route that had no call for so long is given up
ANSWER_S = 5.0  # for a callee to listen, and for a caller to use its grant
AGAIN_S = 30.0  # before a pair whose route was closed gets the next one
EACH_MOST = 16  # grants that one incarnation has as a caller, and as many as a callee
GRANTS_MOST = 256  # of a host
PAUSES_MOST = 1024  # pairs of which is remembered when they may have the next route

Pair: TypeAlias = tuple[Token, Token]  # caller and callee
Message: TypeAlias = tuple[Token, Downward]  # to whom, and what


class Mode(Enum):
    """Which pairs get a route."""

    OFF = "off"
    BUSY = "busy"  # those that call each other often
    ALL = "all"  # every pair, at its first message: for tests


class Phase(Enum):
    """How far a grant is."""

    OFFERED = "offered"  # the callee has the request to listen
    GRANTED = "granted"  # it listens; the caller was given the grant
    ACTIVE = "active"  # the caller's calls go directly
    REVOKED = "revoked"  # the caller is to close it


class Fitness(msgspec.Struct, frozen=True):
    """What one incarnation is fit for.

    Attributes:
        lives: It has a process; a grant ends with it.
        calls: It may get a route of its own to others.
        takes: Others may get a route to it. Not while it is paused, drains, is reloaded, or is
            under a fault of `garrison chaos`, and not if its release has no direct routes.
        keeps: A route to it may go on. So also while a supervisor has yet to adopt it.
        path: Where it listens, or would.
    """

    lives: bool = False
    calls: bool = False
    takes: bool = False
    keeps: bool = False
    path: str = ""


class Grant(msgspec.Struct, eq=False):
    """One direct route."""

    address: Token
    caller: Token
    callee: Token
    path: str
    since: float
    used_at: float
    phase: Phase = Phase.OFFERED

    @property
    def pair(self) -> Pair:
        """Return caller and callee."""
        return self.caller, self.callee


class Grants:
    """All direct routes of a host. Each method returns the messages that follow.

    Args:
        mode: Which pairs get one.
        fitness: Returns what an incarnation is fit for.
        new_address: Returns an address that no route had before.

    Attributes:
        granted: Routes that became active, in all.
        failed: Routes that were closed because of a problem, in all.
        problem: The last such problem, in words.
    """

    def __init__(
        self,
        mode: Mode,
        fitness: Callable[[Token], Fitness],
        new_address: Callable[[], Token],
    ) -> None:
        self.mode, self._fitness, self._new_address = mode, fitness, new_address
        self._grants: dict[Token, Grant] = {}  # by address
        self._pairs: dict[Pair, Grant] = {}
        self._not_before: dict[Pair, float] = {}  # when a pair may have the next one
        self.granted = self.failed = 0
        self.problem = ""

    def __len__(self) -> int:
        return len(self._grants)

    @property
    def active(self) -> list[Pair]:
        """Return the pairs whose calls go directly."""
        return [one.pair for one in self._grants.values() if one.phase is Phase.ACTIVE]

    def address_of(self, caller: Token, callee: Token) -> Token:
        """Return the address of a pair's route; empty if it has none."""
        grant = self._pairs.get((caller, callee))
        return grant.address if grant is not None else b""

    # --- what happened ----------------------------------------------------------------------

    def called(
        self, caller: Token, callee: Token, calls: int, seconds: float, now: float
    ) -> list[Message]:
        """Take how many calls of a pair ended in some seconds."""
        grant = self._pairs.get((caller, callee))
        if grant is not None:
            if calls:
                grant.used_at = now
            return []
        least = 1 if self.mode is Mode.ALL else RATE * max(seconds, 1.0)
        if self.mode is Mode.OFF or calls < least:
            return []
        return self._offer(caller, callee, now)

    def met(self, caller: Token, callee: Token, now: float) -> list[Message]:
        """Take the first message of a pair."""
        if self.mode is not Mode.ALL or (caller, callee) in self._pairs:
            return []
        return self._offer(caller, callee, now)

    def _offer(self, caller: Token, callee: Token, now: float) -> list[Message]:
        pair = caller, callee
        if now < self._not_before.get(pair, now) or caller == callee or not self._has_room(pair):
            return []
        one, other = self._fitness(caller), self._fitness(callee)
        if not (one.lives and one.calls and other.lives and other.takes and other.path):
            return []
        grant = Grant(self._new_address(), caller, callee, other.path, now, now)
        self._grants[grant.address] = self._pairs[pair] = grant
        return [(callee, AcceptDirect(grant.address, caller, grant.path))]

    def _has_room(self, pair: Pair) -> bool:
        calls = sum(one.caller == pair[0] for one in self._grants.values())
        takes = sum(one.callee == pair[1] for one in self._grants.values())
        return len(self._grants) < GRANTS_MOST and max(calls, takes) < EACH_MOST

    def opened(self, callee: Token, message: DirectOpen, now: float) -> list[Message]:
        """Take a callee's answer: it listens, or why it does not."""
        grant = self._grants.get(message.address)
        if grant is None or grant.callee != callee:
            return []
        if message.problem and grant.phase is Phase.OFFERED:
            self._fail(grant, message.problem, now)
        elif grant.phase is Phase.OFFERED:
            grant.phase, grant.since = Phase.GRANTED, now
            return [(grant.caller, GrantDirect(grant.address, callee, grant.path))]
        return []

    def reported(self, caller: Token, message: DirectRoute, now: float) -> list[Message]:
        """Take a caller's report. A route that a former supervisor granted is learned."""
        grant = self._grants.get(message.address)
        if grant is None:
            return self._learn(caller, message, now) if message.active else []
        if grant.caller != caller:
            return []
        if not message.active:
            if message.problem:
                self._fail(grant, message.problem, now)
            else:
                self._forget(grant, now)
            return [(grant.callee, RevokeDirect(grant.address))]
        if grant.phase in {Phase.OFFERED, Phase.GRANTED}:
            grant.phase = Phase.ACTIVE
            self.granted += 1
        return []

    def _learn(self, caller: Token, message: DirectRoute, now: float) -> list[Message]:
        callee = message.callee
        one, other = self._fitness(caller), self._fitness(callee)
        if not (one.lives and other.lives) or (caller, callee) in self._pairs:
            return [(caller, RevokeDirect(message.address))]
        grant = Grant(message.address, caller, callee, other.path, now, now, Phase.ACTIVE)
        self._grants[grant.address] = self._pairs[grant.pair] = grant
        messages: list[Message] = [(callee, AcceptDirect(grant.address, caller, grant.path))]
        if self.mode is Mode.OFF:
            messages += self._revoke(grant, now)
        return messages

    # --- what has changed -------------------------------------------------------------------

    def check(self, now: float) -> list[Message]:
        """Forget the grants of ended incarnations; revoke what is idle, late, or not fit."""
        messages: list[Message] = []
        for grant in list(self._grants.values()):
            callee = self._fitness(grant.callee)
            if not callee.lives or not self._fitness(grant.caller).lives:
                self._forget(grant, now)
                if callee.lives:
                    messages.append((grant.callee, RevokeDirect(grant.address)))
            elif self._is_over(grant, callee, now):
                messages += self._revoke(grant, now)
        return messages

    def _is_over(self, grant: Grant, callee: Fitness, now: float) -> bool:
        late = now >= grant.since + ANSWER_S
        if grant.phase is Phase.REVOKED:  # the order may not have arrived
            return late
        idle = self.mode is Mode.BUSY and now >= grant.used_at + IDLE_S
        return not callee.keeps or (idle if grant.phase is Phase.ACTIVE else late)

    def _revoke(self, grant: Grant, now: float) -> list[Message]:
        if grant.phase is Phase.OFFERED:  # its caller knows nothing of it
            self._fail(grant, "its callee did not answer in time", now)
            return [(grant.callee, RevokeDirect(grant.address))]
        grant.phase, grant.since = Phase.REVOKED, now
        return [(grant.caller, RevokeDirect(grant.address))]

    def _fail(self, grant: Grant, problem: str, now: float) -> None:
        self.failed += 1
        self.problem = problem
        self._forget(grant, now)

    def _forget(self, grant: Grant, now: float) -> None:
        del self._grants[grant.address], self._pairs[grant.pair]
        while len(self._not_before) >= PAUSES_MOST:
            del self._not_before[next(iter(self._not_before))]
        self._not_before[grant.pair] = now + AGAIN_S
