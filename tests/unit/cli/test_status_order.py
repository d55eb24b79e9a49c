"""The order of services in `status`, what has changed, and the processes below them."""

from typing import Any

import pytest

from garrison.supervisor.cli.processes import (
    WORDS_MOST,
    ServiceProcess,
    command_words,
    in_tree_order,
)
from garrison.supervisor.cli.status_order import changed, ordered


def row(name: str, state: str = "running", wanted: bool = True, **facts: Any) -> dict[str, Any]:
    """Return what is read of a row of `status`."""
    usual: dict[str, Any] = {"health": None, "link": None, "pid": 1, "restarts": 0, "reason": None}
    return {"name": name, "state": state, "wanted": wanted, **usual, **facts}


ROWS = [
    row("well"),
    row("stopped", "stopped", wanted=False),
    row("paused", paused=True),
    row("warned", warnings=["full"]),
    row("deaf", link={"deaf": "no answer", "disconnected": None}),
    row("unwell", health={"well": False}),
    row("queued", "queued"),
    row("backoff", "backoff"),
    row("cut", link={"disconnected": "revoked"}),
    row("failed", "failed"),
    row("also well"),
]


def test_what_needs_an_operator_comes_first() -> None:
    """Those alike stay in the order of the config."""
    assert [one["name"] for one in ordered(ROWS, "unwell")] == [
        *("cut", "failed", "backoff", "queued", "deaf", "unwell", "warned", "paused"),
        *("well", "also well", "stopped"),
    ]
    assert [one["name"] for one in ordered(ROWS, "name")][:2] == ["also well", "backoff"]
    assert ordered(ROWS, "config") == ROWS


def test_what_has_changed() -> None:
    """Its state, its process or its reason; not its memory."""
    now = [row("a", pid=2), row("b", rss_bytes=5), row("c", reason="x"), row("new")]
    assert changed([row("a"), row("b"), row("c"), row("gone")], now) == {"a", "c", "new"}


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["/usr/bin/node", "/srv/bot.js", "--token=geheim", "x"], "node bot.js --token=… …"),
        (["python3", "-m", "http.server", "8080"], "python3 -m http.server …"),
        (["python3", "-c", "print(secret)"], "python3 -c …"),
        (["sh", "-c", "curl -H secret"], "sh -c …"),
        (["mysql", "-pgeheim", "-u", "root"], "mysql -p… -u …"),
        (["git", "clone", "https://a:b@c"], "git …"),
        (["sleep", "1000"], "sleep …"),
        ([""], ""),
        (["postgres: ada 10.0.0.1 idle"], "postgres:"),
        (["x" * 99], "x" * (WORDS_MOST - 1) + "…"),
    ],
)
def test_a_command_is_shown_without_values(arguments: list[str], shown: str) -> None:
    """They may be secrets; the program, its script and the names of options are none."""
    assert command_words(arguments) == shown


def test_processes_are_listed_as_a_tree() -> None:
    """Each below its parent, also if that has ended or names itself."""

    def process(pid: int, parent: int) -> ServiceProcess:
        return ServiceProcess(pid, parent, "x", 1, 0.0, 1.0, "sleeping")

    listed = [process(*one) for one in ((2, 1), (3, 1), (4, 2), (5, 3), (6, 4), (7, 99), (8, 8))]
    assert [one.pid for one in in_tree_order(1, listed)] == [2, 4, 6, 3, 5, 7, 8]
