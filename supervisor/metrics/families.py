"""The metrics of a host, from what its supervisor answers. Pure.

Labels are names from the config and from manifests, states and outcomes: nothing that a message or
a user of a platform could choose. Durations are seconds, sizes are bytes.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, TypeAlias

from garrison.ipc.call_totals import CallTotals, Totals
from garrison.ipc.messages import State

from .text import Family, Histogram, Kind, Samples

Row: TypeAlias = Mapping[str, Any]  # of `garrison status --json`

C, G, H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
FAMILIES: Final = {
    family.name.removeprefix("garrison_"): family
    for family in (
        Family("garrison_supervisor_up", G, "Whether the supervisor answers."),
        Family("garrison_build_info", G, "Always 1; the supervisor's version.", ("version",)),
        Family("garrison_supervisor_uptime_seconds", G, "Since it started.", (), "seconds"),
        Family("garrison_supervisor_memory_bytes", G, "Its memory (RSS).", (), "bytes"),
        Family("garrison_supervisor_cpu_seconds", C, "Its processor time.", (), "seconds"),
        Family("garrison_node_up", G, "Whether a node has contact.", ("node",)),
        Family(
            "garrison_node_lease_age_seconds",
            G,
            "Since the lease of a node was renewed.",
            ("node",),
            "seconds",
        ),
        Family("garrison_service_up", G, "Whether it runs, and is connected.", ("service",)),
        Family("garrison_service_wanted", G, "Whether it is to run.", ("service",)),
        Family("garrison_service_paused", G, "Whether it is paused.", ("service",)),
        Family("garrison_service_state", G, "1 for its state.", ("service", "state")),
        Family("garrison_service_well", G, "Whether its own health is good.", ("service",)),
        Family("garrison_service_restarts", C, "Restarts after a failure.", ("service",)),
        Family("garrison_deaths", C, "Ends without an order.", ("service", "kind")),
        Family("garrison_service_memory_bytes", G, "Memory (RSS).", ("service",), "bytes"),
        Family("garrison_service_memory_max_bytes", G, "Its memory_max.", ("service",), "bytes"),
        Family(
            "garrison_service_cpu_seconds",
            C,
            "Processor time of its process.",
            ("service",),
            "seconds",
        ),
        Family(
            "garrison_calls",
            C,
            "Calls of services that ended.",
            ("caller", "service", "method", "outcome"),
        ),
        Family(
            "garrison_call_duration_seconds",
            H,
            "From a call to its outcome, as its caller measured it.",
            ("service", "method"),
            "seconds",
        ),
        Family("garrison_calls_in_flight", G, "Calls that it is serving.", ("service",)),
        Family("garrison_direct_routes", G, "Pairs whose calls go directly."),
        Family("garrison_mail_waiting", G, "Posted messages that wait.", ("service",)),
        Family("garrison_mail_dead", G, "Dead letters.", ("service",)),
        Family("garrison_answers", C, "Messages to an agent that ended.", ("agent", "outcome")),
        Family(
            "garrison_platform_last_in_seconds",
            G,
            "Since a platform's last message.",
            ("service",),
            "seconds",
        ),
        Family("garrison_model_tokens", C, "Tokens of today (UTC).", ("service", "kind")),
        Family("garrison_budget_used_ratio", G, "Used of its budget of today.", ("service",)),
        Family("garrison_home_bytes", G, "Disk that a part of the home uses.", ("part",), "bytes"),
        Family("garrison_disk_free_bytes", G, "Free where the home is.", (), "bytes"),
    )
}

# Buckets of calls: from 2**7 µs on, each twice the one before, up to 134 s
FIRST_BUCKET, LAST_BUCKET = 7, 27
# What an agent's own numbers say about the messages that ended: outcome → its number
ANSWERS = {
    "answered": "answers",
    "failed": "unanswered",
    "dropped": "dropped",
    "refused": "refused",
    "expired": "expired",
}
TOKENS = {"in": "tokens_in", "cached": "tokens_cached", "out": "tokens_out"}  # of a provider
MAILBOX, AGENT = "mailbox", "agent"  # service_types


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What metrics are made of.

    Attributes:
        status: The data of `status`; None: no supervisor answers.
        totals: What was counted; None: the supervisor is too old, or does not answer.
        home_bytes: Part of the home → bytes on disk.
        free_bytes: Free on the home's disk; None: not known.
    """

    status: Mapping[str, Any] | None = None
    totals: Totals | None = None
    home_bytes: Mapping[str, int] = field(default_factory=dict)
    free_bytes: int | None = None


def metrics_of(reading: Reading) -> list[Samples]:
    """Return every family with its samples, in the order of FAMILIES."""
    made = {key: Samples(family) for key, family in FAMILIES.items()}
    made["supervisor_up"].set(int(reading.status is not None))
    if reading.status is not None:
        _add_supervisor(made, reading.status["supervisor"])
        for row in reading.status["services"]:
            _add_service(made, row)
            _add_facts(made, row, row["facts"])
    if reading.totals is not None:
        _add_calls(made, reading.totals)
    for part, size in reading.home_bytes.items():
        made["home_bytes"].set(size, part)
    made["disk_free_bytes"].set(reading.free_bytes)
    return list(made.values())


Made: TypeAlias = Mapping[str, Samples]


def _add_supervisor(made: Made, head: Row) -> None:
    made["build_info"].set(1, head["version"])
    made["supervisor_uptime_seconds"].set(head["uptime_s"])
    made["supervisor_memory_bytes"].set(head["rss_bytes"])
    made["supervisor_cpu_seconds"].set(head.get("cpu_seconds"))
    for node in head.get("nodes", ()):
        made["node_up"].set(int(node["up"]), node["name"])
        made["node_lease_age_seconds"].set(node["lease_age_s"], node["name"])


def _add_service(made: Made, row: Row) -> None:
    name, link = row["name"], row.get("link") or {}
    runs = row["state"] == State.RUNNING.value
    made["service_up"].set(int(runs and not link.get("disconnected")), name)
    made["service_wanted"].set(int(row["wanted"]), name)
    for state in State:
        made["service_state"].set(int(row["state"] == state.value), name, state.value)
    made["service_restarts"].set(row["restarts"], name)
    made["calls_in_flight"].set(row["in_flight"], name)
    made["service_memory_bytes"].set(row["rss_bytes"], name)
    made["service_memory_max_bytes"].set(row["memory_max"], name)
    made["service_cpu_seconds"].set(row.get("cpu_seconds"), name)
    made["platform_last_in_seconds"].set(link.get("last_in_s"), name)
    if health := row.get("health"):
        made["service_well"].set(int(health["well"]), name)
    if "paused" in row:
        made["service_paused"].set(int(row["paused"]), name)


def _add_facts(made: Made, row: Row, facts: Mapping[str, float]) -> None:
    """Add what bundled services report of themselves."""
    name, kind = row["name"], row["service_type"]
    if kind == MAILBOX:
        made["mail_waiting"].set(facts.get("waiting"), name)
        made["mail_dead"].set(facts.get("dead"), name)
    if kind == AGENT:
        for outcome, fact in ANSWERS.items():
            made["answers"].set(facts.get(fact), row["agent"] or name, outcome)
    if all(fact in facts for fact in TOKENS.values()):
        for what, fact in TOKENS.items():
            made["model_tokens"].set(facts[fact], name, what)
    made["budget_used_ratio"].set(facts.get("budget_used"), name)


def _add_calls(made: Made, totals: Totals) -> None:
    for row in totals.calls:
        for outcome, number in zip(totals.outcomes, row.outcomes, strict=False):
            if number:
                labels = row.caller, row.service, row.method, outcome
                made["calls"].set(number, *labels)
    methods: dict[tuple[str, str], list[CallTotals]] = {}
    for row in totals.calls:
        methods.setdefault((row.service, row.method), []).append(row)
    for key, rows in methods.items():
        made["call_duration_seconds"].set(durations(rows, totals.bounds_s), *key)
    made["direct_routes"].set(len(totals.direct))
    for death in totals.deaths:
        made["deaths"].set(death.number, death.service, death.kind)


def durations(rows: Iterable[CallTotals], bounds_s: tuple[float, ...]) -> Histogram:
    """Return the durations of all callers together, in fewer buckets."""
    rows = list(rows)
    sums = [sum(counts) for counts in zip(*(row.buckets for row in rows), strict=True)]
    below = list(accumulate(sums))
    last = min(LAST_BUCKET, len(bounds_s) - 1)
    chosen = {bounds_s[n]: below[n] for n in range(FIRST_BUCKET, last + 1)}
    return Histogram(chosen, below[-1], sum(row.seconds for row in rows))
