"""The metrics of a host: what each is made of, and that Prometheus' own parsers read the text."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import promql_parser
import pytest
import yaml
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

from garrison.ipc.call_counts import BOUNDS_S, BUCKETS, OUTCOMES
from garrison.ipc.call_totals import CallTotals, DeathTotal, Totals
from garrison.ipc.messages import State
from garrison.supervisor.control.status import held_row
from garrison.supervisor.lifecycle.services import HeldService
from garrison.supervisor.metrics.families import FAMILIES, Reading, metrics_of
from garrison.supervisor.metrics.text import Family, Kind, Samples, render

DOCS = Path(__file__).parents[3] / "docs" / "operate"
parse: Any = openmetrics.text_string_to_metric_families
parse_plain: Any = plain.text_string_to_metric_families
HEAD = {
    "version": "1.2",
    "uptime_s": 5.5,
    "rss_bytes": 10,
    "cpu_seconds": 1.5,
    "nodes": [{"name": "box", "up": False, "lease_age_s": 4.5}],
}


def a_row(name: str, **changes: Any) -> dict[str, Any]:
    """Return a service's row of `status`."""
    return held_row(HeldService(name, "")) | {"state": "running", "rss_bytes": 7} | changes


def a_call(caller: str, outcomes: Mapping[str, int], buckets: Mapping[int, int]) -> CallTotals:
    """Return calls of `a.m`."""
    counts = tuple(outcomes.get(name, 0) for name in OUTCOMES)
    return CallTotals(
        caller, "a", "m", counts, tuple(buckets.get(n, 0) for n in range(BUCKETS)), 2.5
    )


ROWS = [
    a_row("a", in_flight=2, memory_max=99, restarts=3, paused=True),
    a_row("off", state="stopped", wanted=False, health={"well": False}),
    a_row("mail", service_type="mailbox", facts={"waiting": 4.0, "dead": 1.0}),
    a_row("ada.agent", service_type="agent", agent="ada", facts={"answers": 5.0, "expired": 1.0}),
    a_row(
        "model",
        service_type="model",
        facts={"tokens_in": 3.0, "tokens_cached": 0.0, "tokens_out": 2.0, "budget_used": 0.25},
    ),
    a_row("chat", link={"last_in_s": 1.5, "disconnected": None}),
    a_row("gone", link={"last_in_s": None, "disconnected": "token revoked"}),
]
TOTALS = Totals(
    boot="b",
    since_s=0.0,
    now_s=1.0,
    outcomes=OUTCOMES,
    bounds_s=BOUNDS_S,
    callers={},
    calls=(a_call("c", {"ok": 3, "lost": 1}, {0: 1, 8: 2, 31: 1}), a_call("d", {"ok": 1}, {9: 1})),
    deaths=(DeathTotal("a", "signal", 2),),
)
READING = Reading(
    status={"supervisor": HEAD, "services": ROWS},
    totals=TOTALS,
    home_bytes={"logs": 512},
    free_bytes=10**12,
)


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every sample of a text by its name and labels."""
    return {
        (one.name, frozenset(one.labels.items())): one.value
        for family in parse(text)
        for one in family.samples
    }


def value(name: str, labels: dict[str, str], reading: Reading = READING) -> float | None:
    """Return one sample of a host's metrics."""
    found = samples(render(metrics_of(reading)))
    return found.get((f"garrison_{name}", frozenset(labels.items())))


def test_both_formats_read_it_alike() -> None:
    """OpenMetrics' parser and that of Prometheus' own text find the same samples."""
    text = render(metrics_of(READING))
    plain = {
        (one.name, frozenset(one.labels.items())): one.value
        for family in parse_plain(text)
        for one in family.samples
    }

    assert text.endswith("\n# EOF\n")
    assert samples(text) == plain
    assert {line.split()[3] for line in text.splitlines() if line.startswith("# TYPE")} == {*Kind}


def test_every_family_has_samples_of_a_full_host() -> None:
    """And in the text they have its type, help and labels."""
    parsed = {family.name: family for family in parse(render(metrics_of(READING)))}

    assert set(parsed) == {family.name for family in FAMILIES.values()}
    for family in FAMILIES.values():
        found = parsed[family.name]
        assert (found.type, found.documentation) == (family.kind, family.help)
        for one in found.samples:
            assert set(one.labels) - {"le"} == set(family.labels)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("supervisor_up", {}, 1),
        ("build_info", {"version": "1.2"}, 1),
        ("service_up", {"service": "a"}, 1),
        ("service_up", {"service": "off"}, 0),
        ("service_up", {"service": "gone"}, 0),
        ("service_wanted", {"service": "off"}, 0),
        ("service_paused", {"service": "a"}, 1),
        ("service_well", {"service": "off"}, 0),
        ("service_well", {"service": "a"}, None),
        ("service_state", {"service": "off", "state": "stopped"}, 1),
        ("service_state", {"service": "off", "state": "running"}, 0),
        ("service_restarts_total", {"service": "a"}, 3),
        ("service_memory_max_bytes", {"service": "a"}, 99),
        ("service_memory_max_bytes", {"service": "off"}, None),
        ("deaths_total", {"service": "a", "kind": "signal"}, 2),
        ("calls_in_flight", {"service": "a"}, 2),
        ("calls_total", {"caller": "c", "service": "a", "method": "m", "outcome": "lost"}, 1),
        ("calls_total", {"caller": "d", "service": "a", "method": "m", "outcome": "lost"}, None),
        ("call_duration_seconds_bucket", {"service": "a", "method": "m", "le": "0.000128"}, 1),
        ("call_duration_seconds_bucket", {"service": "a", "method": "m", "le": "0.000256"}, 3),
        ("call_duration_seconds_bucket", {"service": "a", "method": "m", "le": "134.217728"}, 4),
        ("call_duration_seconds_bucket", {"service": "a", "method": "m", "le": "+Inf"}, 5),
        ("call_duration_seconds_count", {"service": "a", "method": "m"}, 5),
        ("call_duration_seconds_sum", {"service": "a", "method": "m"}, 5.0),
        ("mail_waiting", {"service": "mail"}, 4),
        ("mail_dead", {"service": "mail"}, 1),
        ("answers_total", {"agent": "ada", "outcome": "answered"}, 5),
        ("answers_total", {"agent": "ada", "outcome": "failed"}, None),
        ("platform_last_in_seconds", {"service": "chat"}, 1.5),
        ("platform_last_in_seconds", {"service": "gone"}, None),
        ("model_tokens_total", {"service": "model", "kind": "out"}, 2),
        ("budget_used_ratio", {"service": "model"}, 0.25),
        ("home_bytes", {"part": "logs"}, 512),
        ("disk_free_bytes", {}, 10**12),
    ],
)
def test_what_a_metric_shows(name: str, labels: dict[str, str], expected: float | None) -> None:
    """Its value is the one of `status` or of the totals; where there is none, it is left out."""
    assert value(name, labels) == expected


def test_without_a_supervisor_that_is_what_they_say() -> None:
    """What is on the disk is shown all the same; an older supervisor has no calls."""
    gone = Reading(home_bytes={"logs": 1}, free_bytes=5)
    assert set(samples(render(metrics_of(gone)))) == {
        ("garrison_supervisor_up", frozenset()),
        ("garrison_home_bytes", frozenset({("part", "logs")})),
        ("garrison_disk_free_bytes", frozenset()),
    }
    row = {key: it for key, it in ROWS[0].items() if key not in {"cpu_seconds", "link", "paused"}}
    head = {key: it for key, it in HEAD.items() if key != "cpu_seconds"}
    older = Reading(status={"supervisor": head, "services": [row]})
    assert value("service_up", {"service": "a"}, older) == 1
    assert value("service_cpu_seconds_total", {"service": "a"}, older) is None


def test_any_text_is_escaped() -> None:
    """A label or help with quotes, backslashes and line breaks is read back."""
    odd = 'a"b\\c\nd\\ne'
    written = Samples(Family("x", Kind.GAUGE, odd, ("l",)))
    written.set(1, odd)

    (family,) = parse(render([written]))

    assert family.documentation == odd
    assert family.samples[0].labels == {"l": odd}


def test_the_number_of_samples_is_bounded() -> None:
    """By services, and by rows of calls: no message can add one."""
    rows = [a_row(f"s{n}", memory_max=1, health={"well": True}) for n in range(50)]
    with_calls = msgspec.structs.replace(TOTALS, calls=TOTALS.calls * 100)
    reading = Reading(status={"supervisor": HEAD, "services": rows}, totals=with_calls)

    assert len(samples(render(metrics_of(reading)))) < 50 * (len(State) + 12) + 40


# --- what the documentation offers --------------------------------------------------------

SAMPLE_NAMES = {
    f"{family.name}{end}"
    for family in FAMILIES.values()
    for end in {
        Kind.COUNTER: ("_total",),
        Kind.GAUGE: ("",),
        Kind.HISTOGRAM: ("_bucket", "_count", "_sum"),
    }[family.kind]
}
GRAFANA = {"$__rate_interval": "5m", "$service": ".*"}  # what Grafana puts in their place


def expressions() -> Iterator[tuple[str, str]]:
    """Yield each query of the alert rules and the dashboard, with where it is."""
    rules = yaml.safe_load((DOCS / "metrics" / "alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads((DOCS / "metrics" / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


@pytest.mark.parametrize(("where", "query"), list(expressions()))
def test_queries_are_right_and_name_what_exists(where: str, query: str) -> None:
    """Of the alert rules and of the dashboard: their syntax, and every metric and label."""
    for variable, text in GRAFANA.items():
        query = query.replace(variable, text)
    promql_parser.parse(query)
    named = set(re.findall(r"garrison_\w+", query))

    assert named
    assert named <= SAMPLE_NAMES


def test_the_page_lists_every_metric() -> None:
    """In the order of the text, with its labels and its help."""
    page = (DOCS / "metrics.md").read_text()
    listed = re.findall(r"^\| `(garrison_\w+)`(?:, by ([^|]+))? \| (.+) \|$", page, re.MULTILINE)

    assert listed == [
        (
            family.sample_name.removesuffix("_bucket"),
            ", ".join(f"`{label}`" for label in family.labels),
            family.help,
        )
        for family in FAMILIES.values()
    ]


def test_there_are_five_rules() -> None:
    """Each says how bad it is, and what to look at."""
    (group,) = yaml.safe_load((DOCS / "metrics" / "alerts.yml").read_text())["groups"]

    assert len(group["rules"]) == 5
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert {"summary", "description"} == set(rule["annotations"])
