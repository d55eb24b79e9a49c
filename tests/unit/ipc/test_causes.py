"""Why a service is as it is: the chain of causes, by table."""

from typing import Any

import pytest

from garrison.ipc.causes import (
    DEPTH_MOST,
    Evidence,
    Explanation,
    LostCalls,
    cause_lines,
    mends,
    order_words,
    state_words,
)

NOW = 1778054400.0
AT = "2026-05-06T07:59:00.000Z"  # a minute before


def row(name: str = "bot", state: str = "running", **facts: Any) -> dict[str, Any]:
    """Return a row of `status NAME`."""
    usual: dict[str, Any] = {
        "wanted": True,
        "uptime_s": 600.0,
        "reason": None,
        "deaths": [],
        "depends_on": [],
    }
    return {"name": name, "state": state, **usual, **facts}


def death(n: int = 1, cause: str = "its process exited with code 3", **facts: Any) -> Any:
    """Return a line of a crash report."""
    return {"id": f"bot-{n}", "n": n, "at": AT, "cause": cause, "kind": "exit", **facts}


def explained(*rows: dict[str, Any], **more: Any) -> tuple[list[str], list[str]]:
    """Return the lines about the first row's service, and the commands that mend it."""
    whole = Explanation({one["name"]: one for one in rows}, NOW, **more).of(rows[0]["name"])
    lines = [f"{'  ' * depth}{line}" for depth, line in cause_lines(whole)]
    return lines, [one.command for one in mends(whole)]


STOP = {"verb": "stop", "who": "operator", "why": "too loud", "at": NOW - 300}
TABLE: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "well": (row(), ["bot runs, for 10 min"], []),
    "stopped": (
        row(state="stopped", wanted=False, order=STOP),
        ["bot is stopped", "  an operator stopped it 5 min ago (garrison stop): too loud"],
        ["start bot"],
    ),
    "not started": (
        row(state="registered", wanted=False, autostart=False, generation=0, order=None),
        [
            "bot is registered",
            "  it was not started yet, and does not start by itself: autostart = false",
        ],
        ["start bot"],
    ),
    "done": (
        row(state="stopped", wanted=False, restart="transient", last_exit="exited with code 0"),
        ["bot is stopped", '  it exited with code 0, and stays so: restart = "transient"'],
        ["start bot"],
    ),
    "a rejected config": (
        row(state="registered", config_rejected="config.toml:3: no number", reason="its config …"),
        ["bot is registered", "  its config was rejected: config.toml:3: no number"],
        ["apply bot"],
    ),
    "a rejected config of one that runs": (
        row(config_rejected="config.toml:3: no number"),
        [
            "bot runs, for 10 min",
            "  it goes on as it was accepted; its config on disk was rejected: "
            "config.toml:3: no number",
        ],
        ["apply bot"],
    ),
    "a plugin": (
        row(state="failed", reason="its plugin: no module", traceback=["  File x", "Error"]),
        [
            "bot is failed, and not tried again by itself",
            "  its plugin: no module",
            "      File x",
            "    Error",
        ],
        ["restart bot"],
    ),
    "a secret": (
        row(state="failed", reason="secret TOKEN is not set: export TOKEN", deaths=[death()]),
        [
            "bot is failed, and not tried again by itself",
            "  secret TOKEN is not set: export TOKEN",
        ],
        ["restart bot"],
    ),
    "deaths": (
        row(state="backoff", again_in_s=12.0, restarts=9, deaths=[death(2), death(1)]),
        [
            "bot is in backoff, and tried again in 12 s",
            "  its process exited with code 3 (the last 2 times the same) (bot-2, 60 s ago)",
            "    it was handling die of chat",
            "    File bot.py",
            "    last words",
        ],
        ["restart bot"],
    ),
    "a death before": (
        row(deaths=[death(3)]),
        [
            "bot runs, for 10 min",
            "  its last death: its process exited with code 3 (bot-3, 60 s ago)",
        ],
        ["death bot-3"],
    ),
    "a start on a node that failed before": (
        row(deaths=[death(3, "it did not start: no plugin", kind="start", node="box")]),
        [
            "bot runs, for 10 min",
            "  its last death: it did not start: no plugin (on box) (bot-3, 60 s ago)",
        ],
        ["death bot-3"],
    ),
    "a death long before": (
        row(deaths=[death(3) | {"at": "2026-05-05T07:59:00.000Z"}]),
        ["bot runs, for 10 min"],
        [],
    ),
    "an end that is held up": (
        row(state="stopping", reason="waits for call slow", order=STOP),
        [
            "bot is stopping",
            "  its end waits for call slow",
            "    an operator stopped it 5 min ago (garrison stop): too loud",
        ],
        ["stack bot"],
    ),
    "a connection": (
        row(link={"disconnected": "the token was revoked"}),
        [
            "bot runs, for 10 min",
            "  its connection has ended for good: the token was revoked",
        ],
        ["restart bot"],
    ),
    "health and pause": (
        row(paused=True, health={"well": False, "problem": "no answer"}),
        [
            "bot runs, for 10 min, paused",
            "  its health is not good: no answer",
            "  an operator has paused it: it takes nothing",
        ],
        ["logs bot", "resume bot"],
    ),
}


@pytest.mark.parametrize("case", TABLE)
def test_each_state_has_its_cause_and_its_mend(case: str) -> None:
    """The text names the service; the command is one that exists."""
    shown, lines, commands = TABLE[case]
    handled = ("it was handling die of chat",)
    evidence = {"bot-2": Evidence(handled, ("File bot.py",), ("last words",))}

    assert explained(shown, evidence=evidence) == (lines, commands)


def test_the_chain_goes_on_through_dependencies() -> None:
    """The mend is the one at its bottom; a dependency that runs is not mentioned."""
    lines, commands = explained(
        row("a", "queued", reason="waits for b, which is queued", depends_on=["b", "well"]),
        row("b", "queued", reason="waits for c, which is failed", depends_on=["c"]),
        row("c", "failed", reason="secret KEY is not set"),
        row("well"),
    )
    assert lines == [
        "a is queued",
        "  it waits for b, which is queued",
        "    it waits for c, which is failed, and not tried again by itself",
        "      secret KEY is not set",
    ]
    assert commands == ["restart c"]


def test_a_service_that_runs_names_a_dependency_that_does_not() -> None:
    """One that is disconnected for good counts; one that is not in the config is reported."""
    lines, commands = explained(
        row("a", depends_on=["b", "absent"]), row("b", link={"disconnected": "revoked"})
    )
    assert lines[1:] == [
        "  it depends on b, which runs, for 10 min",
        "    its connection has ended for good: revoked",
        "  it depends on absent, which is not there: no service of the config has this NAME",
    ]
    assert commands == ["restart b", "apply"]


def test_cycles_and_depth_are_bounded() -> None:
    """Whatever an older or a broken supervisor answers."""
    lines, _ = explained(
        row("a", "queued", reason="waits for b", depends_on=["b"]),
        row("b", "queued", reason="waits for a", depends_on=["a"]),
    )
    assert lines[-1].strip() == "it waits for a, which is queued (see above)"
    many = [
        row(f"s{n}", "queued", reason="waits for", depends_on=[f"s{n + 1}"])
        for n in range(DEPTH_MOST + 5)
    ]
    lines, _ = explained(*many)
    assert len(lines) == DEPTH_MOST + 1
    assert lines[-1].endswith("(and so on)")


def test_lost_calls_and_bound_restarts_name_the_other_service() -> None:
    """Of the last hour."""
    lost = [
        LostCalls("db", "db-4", 120.0, ("get", "get", "put")),
        LostCalls("db", "db-1", 9e9, ("x",)),
    ]
    lines, commands = explained(
        row(), row("db", deaths=[death(7)]), lost={"bot": lost}, taken_along={"bot": ("db", 30.0)}
    )
    assert lines[1:] == [
        "  it was restarted with db, which it is bound to (30 s ago)",
        "    its last death: its process exited with code 3 (bot-7, 60 s ago)",
        "  3 of its calls were lost when db died: get, put (db-4, 2 min ago)",
    ]
    assert commands == ["death bot-7", "death db-4"]


def test_words() -> None:
    """A row without details, and an order of a service or of a user."""
    assert state_words(row(state="backoff")) == "is in backoff, and tried again by itself"
    assert state_words(row(state="starting", wanted=False)) == "is starting, and not wanted"
    assert order_words({"verb": "restart", "who": "agent", "at": 0}, NOW) == (
        "agent restarted it (garrison restart)"
    )
    assert order_words({**STOP, "user": "ada"}, NOW).startswith("ada stopped it 5 min ago")
