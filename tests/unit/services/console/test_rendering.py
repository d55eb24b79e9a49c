"""Texts from outside in pages and streams, by table: they stay text."""

from typing import Any

import pytest

pytest.importorskip("jinja2")
pytest.importorskip("starlette")

from garrison.workers.services.console.action_words import done, fitting, reason
from garrison.workers.services.console.live_parts import Changes
from garrison.workers.services.console.picture import Picture
from garrison.workers.services.console.rendering import TEMPLATES
from garrison.workers.services.console.service_rows import identifier, shown, shown_rows
from garrison.workers.services.console.streams import framed
from garrison.workers.services.console.words import coarse, plain, size, span, utc

HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "</tr></table><hx-partial hx-target='#main'>x</hx-partial>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "\x1b[31mred\x1b[0m\x1b]0;title\x07\x00",
    "\u202egnirts",
]
ROW: dict[str, Any] = {
    "name": "bot",
    "service_type": "bot",
    "plugin": "bot",
    "agent": None,
    "state": "backoff",
    "wanted": True,
    "pid": None,
    "generation": 1,
    "uptime_s": 0.0,
    "restarts": 1,
    "last_exit": None,
    "reason": None,
    "rss_bytes": 0,
    "cpu_percent": 0.0,
    "in_flight": 0,
    "health": None,
    "link": None,
    "warnings": [],
}


def row(**changes: Any) -> dict[str, Any]:
    """Return what is shown of a service."""
    return {**shown({**ROW, **changes}), "rate": None, "spark": ""}


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("key", ["name", "reason", "warnings", "health"])
def test_texts_of_a_service_stay_text(text: str, key: str) -> None:
    """No element and no attribute of a page begins in one."""
    value: Any = {"warnings": [text], "health": {"well": False, "problem": text}}.get(key, text)
    html = TEMPLATES.block(
        "services.html", "row", {"row": row(**{key: value}), "picture": Picture()}
    )

    assert "<script" not in html
    assert "<img" not in html
    assert "<svg" not in html
    assert "<hx-partial" not in html
    assert html.count("</tr>") == 1
    assert "\x1b" not in html or key == "name"
    assert "49" not in html


@pytest.mark.parametrize("nodes", [[], [{"name": "supervisor"}, {"name": "box"}]])
def test_a_host_with_nodes_has_a_column_for_them(nodes: list[dict[str, str]]) -> None:
    """On one machine there is none."""
    picture = Picture(supervisor={"nodes": nodes})
    html = TEMPLATES.block("services.html", "row", {"row": row(node="box"), "picture": picture})
    assert ('<td data-label="Node">box</td>' in html) == bool(nodes)


def test_ids_of_elements_are_distinct() -> None:
    """Whatever the NAMEs are: a part for one never takes the place of another."""
    names = ["a.b", "a_b", "a-b", "a b", "a_2e_b", "ä", "A.b"]

    assert len({identifier(name) for name in names}) == len(names)
    assert all(identifier(name).replace("_", "").replace("-", "").isalnum() for name in names)


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("one\ntwo", "data: one\ndata: two\n\n"),
        ("one\r\rtwo\r\n", "data: one\ndata: \ndata: two\ndata: \n\n"),
        (("failed", "why\n\nevent: x"), "event: failed\ndata: why\ndata: \ndata: event: x\n\n"),
        ("", "data: \n\n"),
    ],
)
def test_no_text_ends_an_event(part: Any, text: str) -> None:
    """Each of its lines is data, also where it looks like the protocol."""
    assert framed(part) == text


def test_only_what_has_changed_is_sent() -> None:
    """A part that is as it was sent last is not sent again."""
    changes = Changes()

    assert "one" in changes.parts({"a": "one", "b": "two"})
    assert changes.parts({"a": "one", "b": "two"}) == ""
    again = changes.parts({"a": "three", "b": "two"})
    assert again == '<hx-partial hx-target="#a" hx-swap="innerMorph">three</hx-partial>'


def test_what_is_unwell_comes_first() -> None:
    """As `garrison status` lists them."""
    states = [("ok", "running"), ("bad", "failed"), ("again", "backoff"), ("off", "stopped")]
    rows = [{**ROW, "name": name, "state": state} for name, state in states]

    assert [one["name"] for one in shown_rows(rows)] == ["bad", "again", "off", "ok"]


@pytest.mark.parametrize(
    ("changes", "verbs"),
    [
        ({"state": "running", "restarts": 0}, ["restart", "stop", "pause", "reload"]),
        ({"state": "stopped", "wanted": False, "restarts": 0}, ["start"]),
        ({"state": "failed"}, ["restart", "stop", "reset"]),
        ({"state": "running", "paused": True, "restarts": 0}, ["restart", "stop", "resume"]),
    ],
)
def test_buttons_are_those_that_do_something(changes: dict[str, Any], verbs: list[str]) -> None:
    """A stopped service cannot be paused."""
    assert [one.verb for one in fitting({**ROW, **changes})] == verbs


@pytest.mark.parametrize(
    ("verb", "data", "line"),
    [
        ("restart", {"services": [{"name": "a", "pid": 7, "generation": 2}]}, "a runs (pid 7, "),
        ("stop", {"services": {"a": "stopped"}}, "a is stopped"),
        ("reset", {"services": {"a": "running"}}, "a is running; its restart count is 0"),
        ("pause", {"services": {"a": {"state": "running", "paused": True}}}, "a is paused"),
        ("restart", {"from_inside": "console"}, "restart: carried out; not waited for"),
        ("restart", None, "restart: carried out"),
    ],
)
def test_a_result_is_said_as_the_command_line_says_it(verb: str, data: Any, line: str) -> None:
    """In a line for each service."""
    assert done(verb, data)[0].startswith(line)


def test_a_reason_names_the_user() -> None:
    """The events of the host show who has pressed a button, and why."""
    assert reason("mia", "  stuck\nagain ") == "mia in the console: stuck again"
    assert reason("mia", "") == "mia in the console"


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (size, 1536 * 1024, "1.5 MiB"),
        (size, 900, "900 B"),
        (size, None, ""),
        (span, 0.012, "12 ms"),
        (span, 3725, "1 h 2 min"),
        (span, None, ""),
        (coarse, 59, "under a minute"),
        (coarse, 7300, "2 h"),
        (utc, 0, "1970-01-01T00:00:00Z"),
        (utc, 1e30, ""),
        (plain, "a\x1b[31mb\x1b]0;t\x07c\x00", "abc"),
    ],
)
def test_numbers_are_in_words(function: Any, value: Any, text: str) -> None:
    """With their unit."""
    assert function(value) == text
