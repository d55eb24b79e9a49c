"""Which provider of a model is asked next, and what is said where there is none."""

import pytest

from garrison.workers import EmbedParams, GenerateTextParams, ModelProvider
from garrison.workers.agents.models import Offer, as_params, choose_offer, no_offer_error
from garrison.workers.agents.registry import provided


def offer(name: str, priority: int = 0, life: str = "running", provider: str = "p") -> Offer:
    """Return an offer of a service that is in some state of life."""
    running, coming = life == "running", life in {"running", "coming"}
    return Offer(name, provider, f"type-{name}", priority, False, running, coming)


@pytest.mark.parametrize(
    ("offers", "provider", "given_up", "expected"),
    [
        ([], None, set(), None),
        ([offer("a"), offer("b")], None, set(), "a"),  # equals: the config's order
        ([offer("a"), offer("b", 1)], None, set(), "b"),
        ([offer("a", -1), offer("b", -2)], None, set(), "a"),
        ([offer("a"), offer("b", 1, "coming")], None, set(), "a"),  # the lower one runs
        ([offer("a", 0, "away"), offer("b", 1, "coming")], None, set(), "b"),
        ([offer("a", 0, "coming"), offer("b", 1, "coming")], None, set(), "b"),
        ([offer("a", 0, "away")], None, set(), None),
        ([offer("a", 1), offer("b")], None, {"a"}, "b"),
        ([offer("a", 1)], None, {"a"}, None),
        ([offer("a", 1), offer("b")], "b", set(), "b"),
        ([offer("a", 1), offer("b")], "type-b", set(), "b"),
        ([offer("a", 1), offer("b", provider="q")], "q", set(), "b"),
        ([offer("a", 1), offer("b", 0, "coming")], "b", set(), "b"),  # asked for: no other one
        ([offer("a", 1), offer("b", 0, "away")], "b", set(), None),
        ([offer("a", 1)], "c", set(), None),
    ],
)
def test_the_highest_that_runs_is_asked(
    offers: list[Offer], provider: str | None, given_up: set[str], expected: str | None
) -> None:
    """Running goes before priority, priority before the config's order."""
    found = choose_offer(offers, provider, given_up)

    assert (found.service if found else None) == expected


def test_where_there_is_none_the_error_says_what_there_is() -> None:
    """Nobody at all, nobody of that type, not that provider, or nobody who runs."""
    known = [("TEXT_LARGE", offer("a", 0, "away")), ("IMAGE", offer("b"))]

    assert "add a plugin with a ModelProvider" in str(no_offer_error("X", None, []))
    assert "there are: TEXT_LARGE, IMAGE" in str(no_offer_error("X", None, known))
    assert "such as [plugins.eliza]" in str(
        no_offer_error("TEXT_LARGE", None, [("IMAGE", offer("b"))])
    )
    assert "'gpt' offers none; it is offered by a" in str(
        no_offer_error("TEXT_LARGE", "gpt", known)
    )
    none = str(no_offer_error("TEXT_LARGE", None, known))
    assert "none of its providers is running: a; garrison status a says why" in none
    assert "none of its providers is running: a" in str(no_offer_error("TEXT_LARGE", "a", known))


def test_a_text_is_a_prompt_or_what_is_embedded() -> None:
    """What else is asked with passes as it is."""
    assert as_params("TEXT_LARGE", "x") == GenerateTextParams("x")
    assert as_params("TEXT_EMBEDDING", "x") == EmbedParams("x")
    assert as_params("TEXT_LARGE", {"prompt": "x"}) == {"prompt": "x"}
    assert as_params("IMAGE", None) == {}


def test_a_model_is_not_asked_with_nothing_that_it_knows() -> None:
    """It would answer to an empty prompt; a word besides known ones is a provider's affair."""
    with pytest.raises(TypeError, match=r"TEXT_LARGE is asked with promt; it knows .*prompt"):
        as_params("TEXT_LARGE", {"promt": "hi"})
    with pytest.raises(TypeError, match="it knows model, text"):
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


def test_a_provider_offers_what_its_author_wrote() -> None:
    """No more: a model that only raises must not be asked."""
    assert provided(Writes) == {"TEXT_SMALL": False, "TEXT_LARGE": False}
    assert provided(Embeds) == {"TEXT_EMBEDDING": False}
    assert provided(ModelProvider) == {}


async def test_what_is_not_written_follows_from_what_is() -> None:
    """Text is a stream of one piece."""
    pieces = [piece async for piece in Writes().stream_text(GenerateTextParams("x"))]

    assert pieces == ["x"]
    with pytest.raises(NotImplementedError, match="Embeds generates no text"):
        await Embeds().generate_text(GenerateTextParams("x"))


def test_system_messages_and_prompt_are_one_conversation() -> None:
    """In that order, and nothing that is empty."""
    params = GenerateTextParams(
        "now", system="be kind", messages=[{"role": "user", "content": "before"}]
    )

    assert [m["content"] for m in params.as_messages()] == ["be kind", "before", "now"]
    assert GenerateTextParams().as_messages() == []
