"""The providers of models as one service sees them: for operators. Pure. Durations are seconds."""

from typing import Any

from .cooling import Cooled
from .models import Offer, in_short


def offer_row(model_type: str, offer: Offer, cooled: Cooled | None, now: float) -> dict[str, Any]:
    """Return one provider of one model type.

    Args:
        model_type: The type.
        offer: The provider.
        cooled: What is known of its failures; None: it has not failed since it answered last.
        now: Monotonic seconds.
    """
    wait = 0.0 if cooled is None else max(cooled.until - now, 0.0)
    return {
        "model_type": model_type,
        "service": offer.service,
        "priority": offer.priority,
        "stream": offer.stream,
        "tools": offer.tools,
        "running": offer.running,
        "passed_over_s": round(wait, 3) if wait else None,
        "failures": 0 if cooled is None else cooled.failures,
        "error": "" if cooled is None else in_short(cooled.error),
    }
