"""The choice of a model's provider, and the error where there is none."""

import pytest

from garrison.workers import EmbedParams, GenerateTextParams, ModelProvider
from garrison.workers.agents.models import Offer, as_params, choose_offer, no_offer_error
from garrison.workers.model_provider import provided_types


def offer(name: str, priority: int = 0, state: str = "running", provider: str = "p") -> Offer:
    """Return an offer of a service that is running, coming or away."""
    running, coming = state == "running", state in {"running", "coming"}
    return Offer(name, provider, f"type-{name}", priority, False, running, coming)


@pytest.mark.parametrize(
    ("offers", "provider", "excluded", "expected"),
    [
        ([], None, set(), None),
        ([offer("a"), offer("b")], None, set(), "a"),  # equal priorities: config order
        ([offer("a"), offer("b", 1)], None, set(), "b"),
        ([offer("a", -1), offer("b", -2)], None, set(), "a"),
        ([offer("a"), offer("b", 1, "coming")], None, set(), "a"),  # only the lower one is running
        ([offer("a", 0, "away"), offer("b", 1, "coming")], None, set(), "b"),
        ([offer("a", 0, "coming"), offer("b", 1, "coming")], None, set(), "b"),
        ([offer("a", 0, "away")], None, set(), None),
        ([offer("a", 1), offer("b")], None, {"a"}, "b"),
        ([offer("a", 1)], None, {"a"}, None),
        ([offer("a", 1), offer("b")], "b", set(), "b"),
        ([offer("a", 1), offer("b")], "type-b", set(), "b"),
        ([offer("a", 1), offer("b", provider="q")], "q", set(), "b"),
        ([offer("a", 1), offer("b", 0, "coming")], "b", set(), "b"),  # requested by name: no other
        ([offer("a", 1), offer("b", 0, "away")], "b", set(), None),
        ([offer("a", 1)], "c", set(), None),
    ],
)
def test_the_running_offer_with_the_highest_priority_is_chosen(
    offers: list[Offer], provider: str | None, excluded: set[str], expected: str | None
) -> None:
    """Running precedes priority; priority precedes config order."""
    found = choose_offer(offers, provider, excluded)

    assert (found.service if found else None) == expected


def test_the_error_lists_what_is_offered() -> None:
    """No models at all, none of that type, not by that provider, or none that is running."""
    known = [("TEXT_LARGE", offer("a", 0, "away")), ("IMAGE", offer("b"))]

    assert "add a plugin with a ModelProvider" in str(no_offer_error("X", None, []))
    assert "offered model types: TEXT_LARGE, IMAGE" in str(no_offer_error("X", None, known))
    assert "such as [plugins.eliza]" in str(
        no_offer_error("TEXT_LARGE", None, [("IMAGE", offer("b"))])
    )
    assert "'gpt' does not offer it; it is offered by a" in str(
        no_offer_error("TEXT_LARGE", "gpt", known)
    )
    none = str(no_offer_error("TEXT_LARGE", None, known))
    assert "none of its providers is running: a; run garrison status a for the reason" in none
    assert "none of its providers is running: a" in str(no_offer_error("TEXT_LARGE", "a", known))


def test_a_text_becomes_a_prompt_or_a_text_to_embed() -> None:
    """Other params are sent as they are."""
    assert as_params("TEXT_LARGE", "x") == GenerateTextParams("x")
    assert as_params("TEXT_EMBEDDING", "x") == EmbedParams("x")
    assert as_params("TEXT_LARGE", {"prompt": "x"}) == {"prompt": "x"}
    assert as_params("IMAGE", None) == {}


def test_params_without_a_known_field_are_rejected() -> None:
    """The model would see an empty prompt. Further fields are left to the provider."""
    with pytest.raises(TypeError, match=r"TEXT_LARGE has no parameters promt; it has .*prompt"):
        as_params("TEXT_LARGE", {"promt": "hi"})
    with pytest.raises(TypeError, match="it has model, text"):
        as_params("TEXT_EMBEDDING", {"input": "hi"})
    assert as_params("TEXT_LARGE", {"prompt": "x", "seed": 1}) == {"prompt": "x", "seed": 1}
    assert as_params("IMAGE", {"promt": "hi"}) == {"promt": "hi"}


class Writes(ModelProvider):
    """Generates."""

    async def generate_text(self, params: GenerateTextParams) -> str:
        return params.prompt


class Embeds(ModelProvider):
    """Embeds."""

    async def embed(self, params: EmbedParams) -> list[float]:
        return []


def test_a_provider_offers_the_methods_that_its_author_wrote() -> None:
    """A model that could only raise must not be offered."""
    assert provided_types(Writes) == {"TEXT_SMALL": False, "TEXT_LARGE": False}
    assert provided_types(Embeds) == {"TEXT_EMBEDDING": False}
    assert provided_types(ModelProvider) == {}


async def test_stream_text_defaults_to_generate_text() -> None:
    """The text is one piece."""
    pieces = [piece async for piece in Writes().stream_text(GenerateTextParams("x"))]

    assert pieces == ["x"]
    with pytest.raises(NotImplementedError, match="Embeds does not generate text"):
        await Embeds().generate_text(GenerateTextParams("x"))


def test_system_messages_and_prompt_are_one_conversation() -> None:
    """In that order, without empty ones."""
    params = GenerateTextParams(
        "now", system="be kind", messages=[{"role": "user", "content": "before"}]
    )

    assert [m["content"] for m in params.as_messages()] == ["be kind", "before", "now"]
    assert GenerateTextParams().as_messages() == []
