"""One question to a model, from provider to provider, until one has answered."""

import logging
from collections import Counter
from collections.abc import Callable

from garrison.ipc.directory import accepts_calls
from garrison.ipc.errors import CallError, ServiceLost
from garrison.ipc.messages import Entry, ModelInfo, State

from .models import Offer, choose_offer, no_offer_error

log = logging.getLogger(__name__)

LOSSES = 3  # a provider that dies so often over one question is not asked again


class ModelFallback:
    """One question to a model.

    Args:
        offers: Returns every model type that is offered now, and the offer, in config order.
        model_type: The one that is asked for.
        provider: Of whom; None is of anybody.
        agent: NAME of the agent whose question it is.
    """

    def __init__(
        self,
        offers: Callable[[], list[tuple[str, Offer]]],
        model_type: str,
        provider: str | None,
        agent: str = "",
    ) -> None:
        self._offers, self._type = offers, model_type
        own = f"{agent}.{provider}"  # NAMEs need not begin with the agent's within it
        named = any(offer.service == own for _, offer in offers())
        self._provider = own if named and provider is not None else provider
        self._losses: Counter[str] = Counter()
        self._given_up: set[str] = set()
        self._error: CallError | None = None

    def next(self) -> Offer:
        """Return whom to ask now. Raises ModelUnavailable, or what the last one ended with."""
        offers = self._offers()
        of_type = [offer for model_type, offer in offers if model_type == self._type]
        offer = choose_offer(of_type, self._provider, self._given_up)
        if offer is not None:
            return offer
        if self._error is not None:
            raise self._error
        raise no_offer_error(self._type, self._provider, offers)

    def lost(self, offer: Offer, error: CallError) -> None:
        """Take it that one did not answer."""
        self._error = error
        self._losses[offer.service] += 1
        if not isinstance(error, ServiceLost) or self._losses[offer.service] >= LOSSES:
            self._given_up.add(offer.service)
        log.warning("model.lost model=%s provider=%s error=%s", self._type, offer.service, error)


def offer_of(entry: Entry, info: ModelInfo) -> Offer:
    """Return what a service's manifest offers, as it is now."""
    return Offer(
        entry.name,
        info.provider,
        entry.manifest.service_type,
        info.priority,
        info.stream,
        running=entry.state is State.RUNNING and bool(entry.token),
        coming=accepts_calls(entry.state, entry.wanted),
    )
