"""The providers of models, as an agent shows them to its operator."""

from garrison.ipc.declared_errors import ModelError
from garrison.workers.agents.cooling import Cooling, Key
from garrison.workers.agents.model_offers import offer_row
from garrison.workers.agents.models import Offer


def test_a_provider_that_failed_is_shown_with_its_error_and_the_rest_of_its_wait() -> None:
    """Once the wait is over, the error stays until the provider answers."""
    cooling, key = Cooling(), Key("openai", "TEXT_LARGE")
    offer = Offer("openai", "openai", "openai", 10, True, True, True, b"one")
    well = offer_row(key.model_type, offer, cooling.get(key, offer.incarnation), 100.0)
    assert (well["passed_over_s"], well["failures"], well["error"]) == (None, 0, "")
    cooling.failed(key, b"one", ModelError("busy", 30.0, "429 slow down"), 99.0, 100.0)
    cooled = offer_row(key.model_type, offer, cooling.get(key, offer.incarnation), 110.0)
    assert (cooled["service"], cooled["priority"]) == ("openai", 10)
    assert (cooled["passed_over_s"], cooled["failures"]) == (20.0, 1)
    assert "429 slow down" in cooled["error"]
    over = offer_row(key.model_type, offer, cooling.get(key, offer.incarnation), 131.0)
    assert (over["passed_over_s"], over["failures"]) == (None, 1)
    other = offer_row(key.model_type, offer, cooling.get(key, b"two"), 110.0)
    assert other["failures"] == 0
