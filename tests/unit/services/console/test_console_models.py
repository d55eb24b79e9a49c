"""The page Models: the order of providers, who is passed over, usage, budgets."""

from typing import Any

from tests.support.console_visits import EVIL, FakeHost, listed, text_of, visit_of

from garrison.ipc import CallTimeout
from garrison.ipc.messages.manifest import ModelInfo
from garrison.workers.services.console.model_rows import agent, amount, budget, kinds, provider
from garrison.workers.services.console.pages import models
from garrison.workers.services.console.picture import Picture


def offer(service: str, priority: int, **more: Any) -> dict[str, Any]:
    """Return a provider as an agent sees it."""
    return {
        "model_type": "TEXT_LARGE",
        "service": service,
        "priority": priority,
        "stream": True,
        "tools": False,
        "running": True,
        "passed_over_s": None,
        "failures": 0,
        "error": "",
        **more,
    }


def test_the_provider_that_is_called_first_is_named() -> None:
    """One that is passed over, with the time; one that does not run is not called."""
    rows = [
        offer("eliza", -100),
        offer("down", 50, running=False),
        offer("openai", 20, passed_over_s=30.0, failures=2, error="429"),
        offer("local", 10),
    ]
    (kind,) = kinds({"agent": rows}, 1000.0)
    found = [(one["service"], one["words"], one["until"]) for one in kind["providers"]]
    assert found == [
        ("down", "does not run", None),
        ("openai", "is passed over", 1030.0),
        ("local", "is called first", None),
        ("eliza", "is next", None),
    ]


def test_agents_that_see_the_same_share_a_row() -> None:
    """Another has its own: who is passed over is each agent's."""
    well, cooled = [offer("openai", 20)], [offer("openai", 20, passed_over_s=9.0)]
    found = kinds({"ada": well, "bob": well, "max": cooled}, 0.0)
    assert [kind["agents"] for kind in found] == [["ada", "bob"], ["max"]]


def test_budgets_and_amounts() -> None:
    """What there is none of is not shown."""
    assert budget({"requests": 3.0}) == {}
    left = budget(
        {"budget_left": 1500.0, "cost_left": 0.25, "budget_used": 0.9, "over_budget": 2.0}
    )
    assert (left["percent"], left["tone"], left["tokens"], left["cost"], left["refused"]) == (
        *(90, "odd", "1,500", "0.25"),
        2,
    )
    assert budget({"budget_used": 1.0, "budget_left": 0.0})["tone"] == "bad"
    assert (amount(12345.0), amount(0.1000)) == ("12,345", "0.1")
    assert agent({"name": "agent", "facts": {}}) is None
    row = provider({"name": "eliza", "state": "running", "facts": {}}, ["TEXT_LARGE"], None)
    assert (row["counts"], row["today"], row["days"]) == (False, [], [])


async def test_the_page_has_what_is_known() -> None:
    """Days of usage, budgets, and texts of others as text; a service that is late is left out."""
    model = ModelInfo("TEXT_LARGE", "openai", 20)
    entries = [
        listed("agent", "agent", "models"),
        listed("openai", "openai", "usage_by_day", manifest={"models": (model,)}),
        listed("slow", "slow", "usage_by_day"),
    ]
    day = {"tokens_in": 10, "tokens_out": 5, "cost": 0.5, "unpriced": 1, "failures": 0}
    answers: dict[tuple[str, str], Any] = {
        ("agent", "models"): [offer("openai", 20, passed_over_s=9.0, failures=1, error=EVIL)],
        ("openai", "usage_by_day"): [
            day | {"at": 86_400.0, "requests": 7},
            day | {"at": 172_800.0, "requests": 8},
        ],
        ("slow", "usage_by_day"): CallTimeout("slow", "usage_by_day", "late"),
    }
    facts = {"requests": 8.0, "tokens_in": 10.0, "cost": 0.5, "budget_left": 90.0}
    status = {
        "agent": {"name": "agent", "state": "running", "facts": {"budget_left": 5.0}},
        "openai": {"name": "openai", "state": "running", "facts": facts, "warnings": [EVIL]},
        "slow": {"name": "slow", "state": "running", "facts": {"requests": 0.0}},
    }
    visit = visit_of(FakeHost(entries, answers), picture=Picture(status))
    text = text_of(await models.show(visit))
    assert "1970-01-03" in text
    assert text.index("1970-01-03") < text.index("1970-01-02")
    assert "is passed over" in text
    assert "90 tokens left" in text
    part = text_of(await models.show(visit_of(FakeHost(entries, answers), part=True)))
    assert part.lstrip().startswith('<div id="figures"')


async def test_without_an_agent_the_directory_is_shown() -> None:
    """No one says who is passed over then."""
    entry = listed("eliza", "eliza", manifest={"models": (ModelInfo("TEXT_SMALL", "eliza", -100),)})
    text = text_of(await models.show(visit_of(FakeHost([entry], {}))))
    assert "is called first" in text
    assert "No model" in text_of(await models.show(visit_of(FakeHost([], {}))))
