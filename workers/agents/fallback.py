"""The providers to call for one request to a model, in order; what follows from each error. Pure.

Times are monotonic seconds, passed in as `now`.
"""

from collections import Counter
from collections.abc import Callable
from enum import Enum
from math import inf
from typing import Any

import msgspec

from garrison.ipc.declared_errors import Busy, ModelError, RetryLater
from garrison.ipc.errors import (
    CallError,
    CallTimeout,
    InvalidCall,
    RemoteError,
    ServiceLost,
)

from .cooling import Cooled, Cooling, Key
from .models import (
    TEXT_TYPES,
    ModelUnavailable,
    Offer,
    choose_offer,
    failed_error,
    in_short,
    no_offer_error,
)
from .shorten import shortened
from .tools import has_tools

LOSSES = 3  # a provider that is lost so often during one request is not called again
REFUSALS = 2  # of one request; then no further provider is called
HANGS_AFTER_S = 5.0  # a provider that had less time may have been about to answer


class Then(Enum):
    """What follows from a failed request to a provider."""

    AGAIN = "again"  # its process ended: the same provider, up to `LOSSES` times
    NEXT = "next"
    COOL = "cool"  # the next provider; this one is passed over for a while
    NEXT_ONCE = "next_once"
    SHORTEN = "shorten"  # the same provider with less text, once; then the next one
    END = "end"


BY_KIND = {
    "busy": Then.COOL,
    "auth": Then.COOL,
    "refused": Then.NEXT_ONCE,
    "context": Then.SHORTEN,
    "invalid": Then.END,
}


def then(error: CallError, waited: float) -> Then:
    """Return what follows from an error.

    Args:
        error: The error of one provider.
        waited: Seconds that it had to answer.
    """
    if isinstance(error, ModelError):
        return BY_KIND[error.kind]
    if isinstance(error, ServiceLost):
        return Then.AGAIN
    if isinstance(error, InvalidCall):
        return Then.END
    if isinstance(error, CallTimeout):
        return Then.COOL if waited >= HANGS_AFTER_S else Then.NEXT
    # Others mean that it was not called, so they show nothing about the provider.
    return Then.COOL if isinstance(error, RemoteError | Busy | RetryLater) else Then.NEXT


class Attempt(msgspec.Struct, frozen=True):
    """One request to one provider."""

    offer: Offer
    params: Any
    began: float


class ModelFallback:
    """The providers to call for one request.

    Args:
        offers: Returns all current offers, each with its model type, in config order.
        model_type: The requested type.
        provider: The requested provider; None is any.
        params: The parameters. If they offer tools, only providers that take tools are called.
        cooling: The providers that are passed over.
        agent: NAME of the agent that makes the request.
        fallback: False: only the provider with the highest priority is called, and never passed
            over.
    """

    def __init__(
        self,
        offers: Callable[[], list[tuple[str, Offer]]],
        model_type: str,
        provider: str | None,
        params: Any,
        cooling: Cooling,
        agent: str = "",
        fallback: bool = True,
    ) -> None:
        self._offers, self._type, self._params = offers, model_type, params
        self._tools = model_type in TEXT_TYPES and has_tools(params)
        self._cooling, self._fallback = cooling, fallback
        own = f"{agent}.{provider}"  # within an agent, NAMEs may omit its prefix
        is_own = any(offer.service == own for _, offer in offers())
        self._provider = own if is_own and provider is not None else provider
        self._losses: Counter[str] = Counter()
        self._excluded: set[str] = set()
        self._errors: dict[str, CallError] = {}  # by NAME
        self._refusals, self._is_shortened, self._ended = 0, False, False
        self._probed: Key | None = None  # this request is the provider's probe

    def next(self, now: float) -> Attempt:
        """Return the request to make now. `end` must follow.

        Raises:
            ModelUnavailable: There is no provider, or none is left.
        """
        offers = self._offers()
        offer = None if self._ended else self._choose(offers, now)
        if offer is None:
            raise self._error(offers, now)
        key = Key(offer.service, self._type)
        if self._fallback and self._cooling.begin(key, offer.incarnation, now):
            self._probed = key
        return Attempt(offer, self._params, now)

    def _choose(self, offers: list[tuple[str, Offer]], now: float) -> Offer | None:
        of_type = self._of_type(offers)
        if not self._fallback:
            only = sorted(of_type, key=lambda offer: -offer.priority)[:1]
            return choose_offer(only, None, self._excluded)
        cooled = [offer for offer in of_type if self._is_passed_over(offer, now)]
        others = [offer for offer in of_type if offer not in cooled]
        # Perhaps a request was at fault, so it is called where no other provider is left.
        perhaps = [offer for offer in cooled if not self._has_declared(offer)]
        return choose_offer(others, None, self._excluded) or choose_offer(
            perhaps, None, self._excluded
        )

    def _of_type(self, offers: list[tuple[str, Offer]]) -> list[Offer]:
        return [
            offer
            for model_type, offer in offers
            if model_type == self._type
            and offer.matches(self._provider)
            and (offer.tools or not self._tools)
        ]

    def _is_passed_over(self, offer: Offer, now: float) -> bool:
        key = Key(offer.service, self._type)
        return self._cooling.is_passed_over(key, offer.incarnation, now)

    def _has_declared(self, offer: Offer) -> bool:
        cooled = self._cooling.get(Key(offer.service, self._type), offer.incarnation)
        return cooled is not None and cooled.is_declared

    def _error(self, offers: list[tuple[str, Offer]], now: float) -> ModelUnavailable:
        cooled = {} if self._ended else self._cooled(offers)
        errors = self._errors | {name: one.error for name, one in cooled.items()}
        if not errors:
            return no_offer_error(self._type, self._provider, offers, self._tools)
        notes = {name: _in_words(one, now) for name, one in cooled.items()}
        return failed_error(self._type, errors, notes)

    def _cooled(self, offers: list[tuple[str, Offer]], least: float = -inf) -> dict[str, Cooled]:
        """Return the providers that have failed before this request and were not called, by NAME.

        Args:
            offers: All current offers.
            least: The lowest priority that counts.
        """
        found = dict[str, Cooled]()
        for offer in self._of_type(offers) if self._fallback else ():
            cooled = self._cooling.get(Key(offer.service, self._type), offer.incarnation)
            was_called = offer.service in self._errors
            if cooled is not None and offer.coming and not was_called and offer.priority >= least:
                found[offer.service] = cooled
        return found

    def passed_over(self, attempt: Attempt) -> dict[str, str]:
        """Return why this attempt was not made at providers that come before its own, by NAME."""
        cooled = self._cooled(self._offers(), attempt.offer.priority)
        return {
            name: _in_words(one, attempt.began)
            for name, one in cooled.items()
            if name != attempt.offer.service
        }

    def answered(self, attempt: Attempt) -> bool:
        """Note an answer; True if the provider is passed over no longer."""
        self.end()
        return self._cooling.answered(Key(attempt.offer.service, self._type), attempt.began)

    def failed(self, attempt: Attempt, error: CallError, now: float) -> float | None:
        """Note a failure; return how long to pass over the provider; None: it was not at fault."""
        self.end()
        offer, key = attempt.offer, Key(attempt.offer.service, self._type)
        self._errors.pop(offer.service, None)  # the last one comes last
        self._errors[offer.service] = error
        follows, wait = then(error, now - attempt.began), None
        if follows is Then.COOL:
            wait = self._cooling.failed(key, offer.incarnation, error, attempt.began, now)
        elif isinstance(error, ModelError):  # it has answered: the request is at fault
            self._cooling.answered(key, attempt.began)
        if not self._goes_on_with(offer, follows, attempt.params):
            self._excluded.add(offer.service)
        self._refusals += follows is Then.NEXT_ONCE
        self._ended = self._ended or follows is Then.END or self._refusals >= REFUSALS
        return wait

    def _goes_on_with(self, offer: Offer, follows: Then, params: Any) -> bool:
        """Return whether the same provider is called again."""
        if follows is Then.AGAIN:
            self._losses[offer.service] += 1
            return self._losses[offer.service] < LOSSES
        if follows is Then.SHORTEN and not self._is_shortened:
            self._is_shortened = True
            shorter = shortened(params)
            if shorter is not None:
                self._params = shorter
                return True
        return False

    def end(self) -> None:
        """End the request that `next` returned, answered or not."""
        if self._probed is not None:
            self._cooling.end(self._probed)
            self._probed = None


def _in_words(cooled: Cooled, now: float) -> str:
    return f"passed over for {max(cooled.until - now, 0.0):.3g} s: {in_short(cooled.error)}"
