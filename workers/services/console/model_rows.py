"""What the page Models shows: who serves which kind, who is passed over, usage, budgets. Pure.

Times are Unix seconds, durations seconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Row: TypeAlias = dict[str, Any]

DAYS_MOST = 31
TODAY = (  # facts of a provider → their names on the page
    ("requests", "requests"),
    ("failures", "failed"),
    ("tokens_in", "tokens in"),
    ("tokens_cached", "of these cached"),
    ("tokens_out", "tokens out"),
    ("cut_short", "cut short"),
    ("cost", "cost"),
    ("unpriced", "without a price"),
)
BUDGET = ("budget_used", "budget_left", "cost_left", "over_budget")


def kinds(offers: Mapping[str, Iterable[Mapping[str, Any]]], now: float) -> list[Row]:
    """Return the model types, each with its providers, the one that is called first at the top.

    Args:
        offers: The providers as each agent sees them, by the agent's NAME; see its method
            `models`.
        now: The time.
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for agent, rows in offers.items():
        for row in rows:
            found.setdefault((row["model_type"], agent), []).append(_provider(row, now))
    shown = list[Row]()
    for (model_type, agent), providers in sorted(found.items()):
        ordered = _ordered(providers)
        for kind in shown:  # agents that see the same share a row
            if (kind["model_type"], kind["providers"]) == (model_type, ordered):
                kind["agents"].append(agent)
                break
        else:
            shown.append({"model_type": model_type, "agents": [agent], "providers": ordered})
    return shown


def _ordered(providers: Iterable[Row]) -> list[Row]:
    """Return providers in the order in which they are called, and name the first of them."""
    ordered = sorted(providers, key=lambda row: -row["priority"])  # in config order where equal
    first = next((row for row in ordered if row["tone"] == "good"), None)
    if first is not None:
        first["words"] = "is called first"
    return ordered


def _provider(row: Mapping[str, Any], now: float) -> Row:
    wait = row.get("passed_over_s")
    if not row["running"]:
        words, tone = "does not run", "bad"
    elif wait:
        words, tone = "is passed over", "odd"
    else:
        words, tone = "is next", "good"
    return {
        "service": row["service"],
        "priority": row["priority"],
        "tools": row["tools"],
        "stream": row["stream"],
        "words": words,
        "tone": tone,
        "until": now + wait if wait else None,
        "failures": row.get("failures", 0),
        "error": row.get("error", ""),
    }


def provider(
    status: Mapping[str, Any], kinds: Sequence[str], days: Sequence[Mapping[str, Any]] | None
) -> Row:
    """Return one provider with its use.

    Args:
        status: Its row of `status`.
        kinds: The model types that it serves.
        days: Its sums by day, the oldest first; None: it counts nothing, or did not answer.
    """
    facts: Mapping[str, float] = status.get("facts") or {}
    return {
        "name": status["name"],
        "state": status["state"],
        "kinds": kinds,
        "counts": "requests" in facts,
        "today": [(words, amount(facts[name])) for name, words in TODAY if name in facts],
        "budget": budget(facts),
        "warnings": list(status.get("warnings") or ()),
        "days": list(reversed(days or ()))[:DAYS_MOST],
    }


def agent(status: Mapping[str, Any]) -> Row | None:
    """Return the budget of an agent; None if it has none."""
    found = budget(status.get("facts") or {})
    return None if not found else {"name": status["name"], "budget": found}


def budget(facts: Mapping[str, float]) -> Row:
    """Return what is left of a day's budgets; empty where there are none."""
    if not any(name in facts for name in BUDGET):
        return {}
    used = facts.get("budget_used")
    return {
        "percent": None if used is None else round(used * 100),
        "tone": "good" if (used or 0.0) < 0.8 else "odd" if (used or 0.0) < 1 else "bad",
        "tokens": None if "budget_left" not in facts else amount(facts["budget_left"]),
        "cost": None if "cost_left" not in facts else amount(facts["cost_left"]),
        "refused": int(facts.get("over_budget", 0)),
    }


def amount(value: float) -> str:
    """Return a number as people read it."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4f}".rstrip("0")
