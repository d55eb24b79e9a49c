"""Crash reports: each end that was not ordered leaves a record with its cause."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, Hosting, found, hosting
from tests.support.waiting import eventually, until

from garrison.ipc import Client, ServiceLost

CANARY = "a canary of 5 words"
TOKEN = "echo-has-this-token-alone"

CONFIG = """
[plugins.crash]
[plugins.echo]
[defaults]
intensity = 0
watchdog = 1.0
grace = 1.0
[services.crash]
depends_on = ["echo"]
[services.echo]
secrets = ["ECHOS_TOKEN"]
[services.loud]
plugin = "crash"
type = "crash"
record_values = true
[services.refused]
plugin = "crash"
type = "crash"
autostart = false
env = { MODE = "start refuses" }
[services.broken]
plugin = "crash"
type = "crash"
autostart = false
env = { MODE = "start raises" }
[services.poor]
plugin = "crash"
type = "crash"
autostart = false
secrets = ["NOT_SET_ANYWHERE"]
[services.once]
plugin = "crash"
type = "crash"
restart = "temporary"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services that die in different ways."""
    with hosting(CONFIG, ["crash", "echo"], env={"ECHOS_TOKEN": TOKEN}) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


def ids(host: Host, name: str) -> list[str]:
    """Return the ids of a service's deaths, oldest first."""
    host.ask("deaths")
    paths = (host.home / "state" / "deaths").glob("*.json")
    own = [path.stem for path in paths if path.stem.rpartition("-")[0] == name]
    return sorted(own, key=lambda one: int(one.rpartition("-")[2]))


def death(host: Host, name: str, known: list[str]) -> dict[str, Any]:
    """Return the one record of a service that is not among the known ones."""

    def record() -> list[str]:
        return [one for one in ids(host, name) if one not in known]

    (new,) = until(record, what=f"the record of {name}'s death")
    read: dict[str, Any] = json.loads((host.home / f"state/deaths/{new}.json").read_text())
    return read


async def test_killed_in_mid_call(running: Host, client: Client) -> None:
    """A record after SIGKILL has the calls in flight in both directions, the last messages, the
    last line of the log, the usage and the events before, and no value of any call."""
    crash = found(client, "crash")
    known = await asyncio.to_thread(ids, running, "crash")
    row = await asyncio.to_thread(running.status, "crash")
    await crash.speak(CANARY)
    lost = [crash.hang(), crash.ask_for("echo", "hold")]
    assert await crash.pid() == row["pid"]
    echo = found(client, "echo")

    async def is_serving() -> bool:
        return bool((await asyncio.to_thread(running.status, "echo"))["in_flight"])

    await eventually(is_serving)
    os.kill(row["pid"], signal.SIGKILL)
    for one in lost:
        with pytest.raises(ServiceLost):
            await one
    record = await asyncio.to_thread(death, running, "crash", known)
    await echo.release()
    assert record["kind"] == "signal"
    assert record["cause"] == "its process was killed by SIGKILL"
    assert (record["signal"], record["exit_code"]) == (signal.SIGKILL, None)
    assert (record["pid"], record["generation"], record["state"]) == (
        row["pid"],
        row["generation"],
        "running",
    )
    flying = {(one["direction"], one["service"], one["method"]) for one in record["in_flight"]}
    assert flying == {
        ("in", "a program", "hang"),
        ("in", "a program", "ask_for"),
        ("out", "echo", "hold"),
    }
    assert record["in_flight_count"] == 3
    shown = [(m["direction"], m["kind"], m["method"], m["outcome"]) for m in record["messages"]]
    assert ("in", "call", "speak", "ok") in shown
    assert ("out", "reply", "pid", "ok") in shown
    assert ("out", "call", "hold", "in flight") in shown
    assert record["log"][-1] == CANARY
    assert record["rss_bytes"] > 1 << 20
    assert record["uptime_s"] > 0
    assert record["policy"]["next"] == "started again at once"
    before = "\n".join(record["before"])
    assert re.search(r"service=crash .*to=running", before)
    assert re.search(r"service=echo .*to=running", before)  # which it depends on
    del record["log"]
    assert CANARY not in json.dumps(record)


async def test_values_are_there_where_its_config_says_so(running: Host, client: Client) -> None:
    """Arguments and results, cut to their first bytes."""
    known = await asyncio.to_thread(ids, running, "loud")
    loud = found(client, "loud")
    pid = await loud.pid()
    await loud.speak(CANARY)
    with pytest.raises(ServiceLost):
        await loud.exit(4)
    record = await asyncio.to_thread(death, running, "loud", known)
    assert (record["kind"], record["exit_code"]) == ("exit", 4)
    assert record["cause"] == "its process exited with code 4"
    values = {(m["method"], m["kind"]): m.get("value") for m in record["messages"]}
    assert values["speak", "call"] == f'["{CANARY}"]'
    assert values["pid", "reply"] == str(pid)
    assert [one["value"] for one in record["in_flight"]] == ["[4]"]


async def test_a_secret_of_another_service_is_in_no_record(running: Host, client: Client) -> None:
    """A service may pass its own secret to one whose values are recorded; the record has it
    redacted."""
    known = await asyncio.to_thread(ids, running, "loud")
    loud = found(client, "loud")
    await found(client, "echo").ask("loud", "speak", [f"log in with {TOKEN}"])
    with pytest.raises(ServiceLost):
        await loud.exit(4)
    record = await asyncio.to_thread(death, running, "loud", known)
    text = json.dumps(record)
    assert "log in with [echo.ECHOS_TOKEN]" in text
    assert TOKEN not in text


async def test_a_segfault_has_its_stack(running: Host, client: Client) -> None:
    """The record names the function; the log is free of the dump."""
    known = await asyncio.to_thread(ids, running, "loud")
    loud = found(client, "loud")
    await loud.speak("the last line")
    with pytest.raises(ServiceLost):
        await loud.segfault()
    record = await asyncio.to_thread(death, running, "loud", known)
    assert (record["kind"], record["signal"]) == ("signal", signal.SIGSEGV)
    assert record["stacks"].startswith("Fatal Python error: Segmentation fault")
    assert re.search(r'crash.py", line \d+ in segfault', record["stacks"])
    assert record["log"] == ["the last line"]
    assert "segfault" in [one["method"] for one in record["in_flight"]]


async def test_a_watchdog_has_the_stacks(running: Host, client: Client) -> None:
    """The record names the blocking function, its call, and the duration of the silence."""
    known = await asyncio.to_thread(ids, running, "loud")
    loud = found(client, "loud")
    await loud.speak("the last line")
    with pytest.raises(ServiceLost):  # on a loaded machine, the cause may come after the end
        await loud.block()
    record = await asyncio.to_thread(death, running, "loud", known)
    assert record["kind"] == "watchdog"
    assert "silent for 1 s" in record["cause"]
    assert record["state"] == "running"
    assert re.search(r'crash.py", line \d+ in block', record["stacks"])
    assert "the last line" in record["log"]  # the worker may have logged that it is blocked
    assert not any("launcher.py" in line for line in record["log"])  # how it came to be
    assert [one["method"] for one in record["in_flight"]] == ["block"]
    assert record["beat_age_s"] >= 1.0


async def test_an_exception_in_background_work_has_its_traceback(
    running: Host, client: Client
) -> None:
    """With type, text and the author's frames."""
    known = await asyncio.to_thread(ids, running, "loud")
    await found(client, "loud").crash()
    record = await asyncio.to_thread(death, running, "loud", known)
    assert record["kind"] == "exception"
    assert record["cause"] == "an exception ended it: LookupError: the background failed"
    assert record["exception"]["phase"] == "run"
    assert "in _raise" in record["exception"]["traceback"]
    assert record["log"][-1] == "LookupError: the background failed"


@pytest.mark.parametrize(
    ("name", "cause", "then"),
    [
        ("refused", "bad token", "trying again is no use"),
        ("broken", "RuntimeError: cannot start: no connection", "started again"),
        ("poor", "secret NOT_SET_ANYWHERE is not set", "trying again is no use"),
    ],
)
def test_a_failed_start_is_a_death_too(running: Host, name: str, cause: str, then: str) -> None:
    """Also a permanent failure, and one without a process."""
    assert running.run("start", name).code == 1
    running.ask("stop", name)
    first = ids(running, name)[0]
    record = json.loads(running.run("death", first, json=True).out)["data"]
    assert record["kind"] == "start"
    assert record["cause"].startswith("it did not start: ")
    assert cause in record["cause"]
    assert then in record["policy"]["next"]
    assert cause in record["exception"]["reason"]


async def test_an_ordered_end_leaves_no_record(running: Host, client: Client) -> None:
    """Nor does a temporary service that ends by itself. Their flight records are removed."""
    known = await asyncio.to_thread(lambda: ids(running, "loud") + ids(running, "once"))
    for verb in ("restart", "stop", "start"):
        await asyncio.to_thread(running.ask, verb, "loud")
    await running.call("once", "leave", 0)
    await asyncio.to_thread(running.wait_for, "once", "stopped")
    assert await asyncio.to_thread(lambda: ids(running, "loud") + ids(running, "once")) == known
    live = {row["name"] for row in running.rows().values() if row["pid"] is not None}
    flights = {path.name.split(".")[0] for path in (running.home / "run").glob("*.flight")}
    assert flights == live


def test_status_and_the_console_name_the_command_for_more(running: Host) -> None:
    """`status` lists the last five, one line each; the event has the id."""
    for _ in range(6):
        running.ask("reset", "echo")  # so that it is there again at once
        running.until_reborn("echo", running.kill("echo"))
    newest = ids(running, "echo")[-1]
    row = running.status("echo")
    assert [one["id"] for one in row["deaths"]] == ids(running, "echo")[-5:][::-1]
    shown = running.run("status", "echo").out
    assert shown.count("its process was killed by SIGKILL") == 5
    assert f"death {newest}" in shown
    (event,) = [e for e in running.events("service.state") if e["data"].get("death") == newest]
    assert event["data"]["from"] == "running"
    assert f"garrison death {newest}" in running.output


def newest_of_a_killed_echo(running: Host) -> str:
    """Return the id of echo's last death by SIGKILL; kill it once for that."""
    known = ids(running, "echo")
    old = running.kill("echo")
    running.until_reborn("echo", old)
    record: str = death(running, "echo", known)["id"]
    return record


@pytest.mark.parametrize("columns", ["80", "200"])
def test_a_death_is_readable_at_any_width(running: Host, columns: str) -> None:
    """The whole record fits into the terminal."""
    newest = newest_of_a_killed_echo(running)
    ran = running.run("death", newest, env={"COLUMNS": columns})
    assert ran.code == 0
    for part in ("killed by SIGKILL", "then", "what came before", newest):
        assert part in ran.out
    assert max(map(len, ran.out.splitlines())) <= int(columns)
    ran = running.run("deaths", "ec*", env={"COLUMNS": columns})
    assert newest in ran.out
    assert max(map(len, ran.out.splitlines()[:-1])) <= int(columns)  # the last is a command


def test_unknown_ids_and_names_are_reported(running: Host) -> None:
    """An unknown id, with the closest one; an unknown NAME; a service without a record."""
    newest = newest_of_a_killed_echo(running)
    wrong = running.run("death", newest.replace("-", "_"))
    assert wrong.code == 4
    assert newest.rpartition("-")[0] in wrong.err
    assert running.run("death", "nothing-like-it-1").code == 4
    assert running.run("deaths", "absent").code == 4
    fresh = running.run("deaths", "echo", "-n", "2", json=True)
    assert [one["id"] for one in fresh.data["deaths"]] == ids(running, "echo")[-2:]
    assert running.run("death", "echo", json=True).data["id"] == newest  # the NAME's last one


def test_records_outlive_the_supervisor(host: Hosting) -> None:
    """They are files: both verbs work without a supervisor, and the next one continues the numbers.
    Ends during the shutdown are recorded, too."""
    one = host("[plugins.echo]", ["echo"])
    old = one.kill("echo")
    records = one.home / "state" / "deaths"
    until(lambda: list(records.glob("*.json")), what="it is written without a request")
    one.until_reborn("echo", old)
    (first,) = ids(one, "echo")
    one.kill("echo")
    until(lambda: one.status("echo")["restarts"] == 2)
    assert one.end() == 0
    listed = one.run("deaths", json=True).data["deaths"]
    assert [line["service"] for line in listed] == ["echo", "echo"]
    assert one.run("death", first).code == 0
    record = one.run("events", "e*").out.splitlines()  # what was written down, without it, too
    assert sum("death=echo-" in line for line in record) == 2
    assert not list((one.home / "run").glob("*.flight"))
    damaged = one.home / "state" / "deaths" / f"{first}.json"
    damaged.write_text(damaged.read_text()[:-1])
    assert one.run("death", first).code == 1
    ran = one.run("deaths")
    assert ran.code == 0
    assert str(damaged) in ran.err
    one.up()
    before = one.run("events", "-n", "200").out
    assert before.count("supervisor.started") == 2
    assert f"death={first}" in before
    one.until_reborn("echo", one.kill("echo"))
    newest = one.run("death", "echo", json=True).data
    assert newest["n"] == listed[-1]["n"] + 1
    assert any("death=" in line for line in newest["before"])  # that under the one before


def test_a_home_that_cannot_be_written_stops_no_service(host: Hosting) -> None:
    """If a record cannot be written, an event says so, and the service is restarted."""
    one = host("[plugins.echo]", ["echo"])
    (one.home / "state" / "deaths").write_text("in the way")
    one.until_reborn("echo", one.kill("echo"))
    until(lambda: one.events("death.unrecorded"), what="the event is recorded")
    assert one.run("deaths").code == 0
    assert not [event for event in one.events() if event["event"] == "supervisor.erred"]
    (one.home / "state" / "deaths").unlink()


def test_a_record_after_an_adoption_is_of_that_process_alone(host: Hosting) -> None:
    """It has neither the stacks nor the log lines of the process before, which another supervisor
    ran."""
    one = host(f"{LONG_GRACE}[plugins.echo]", ["echo"])
    old = one.kill("echo", signal.SIGSEGV)
    one.until_reborn("echo", old)
    assert "Segmentation fault" in death(one, "echo", [])["stacks"]
    known = ids(one, "echo")
    row = one.status("echo")
    one.end(signal.SIGKILL)
    one.up()
    assert one.status("echo")["pid"] == row["pid"]
    one.until_reborn("echo", one.kill("echo"))
    record = death(one, "echo", known)
    assert record["cause"] == "its process was killed by SIGKILL"
    assert record["stacks"] == ""
    assert not [line for line in record["log"] if "File " in line or "Segmentation" in line]
    assert record["unknown"] == []


def test_a_stopped_process_is_recorded_as_stopped(host: Hosting) -> None:
    """A process after SIGSTOP has no stacks; the cause names the stop."""
    one = host("[defaults]\nwatchdog = 0.5\n[plugins.echo]", ["echo"])
    one.until_reborn("echo", one.kill("echo", signal.SIGSTOP))
    cause = "its process was stopped, and silent for 0.5 s, so it was ended"
    assert death(one, "echo", [])["cause"] == cause
