"""Starting, stopping, failing and restarting, as `config.toml` says and `status` tells."""

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import ROOT, Host, Hosting, found, hosting
from tests.support.proc import alive
from tests.support.waiting import SOON, until, until_true

from garrison.ipc import OrderFailed, RemoteError, ServiceLost, ServiceUnavailable
from garrison.ipc.messages import State


def crashing(name: str, mode: str, **keys: Any) -> str:
    """Return the section of a service that fails in a way."""
    lines = [f"[services.{name}]", 'plugin = "crash"', f'env = {{ MODE = "{mode}" }}']
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in keys.items())]) + "\n"


# --- starts that fail, each beside the others ---------------------------------------------

# mode → what `status` says of it
START_FAILURES = {
    "init raises": "RuntimeError: init cannot",
    "init hangs": "it did not start within 3 s",
    "init exits": "its process exited with code 9",
    "start raises": "RuntimeError: cannot start: no connection",
    "start hangs": "it did not start within 3 s",
    "start blocks": "it did not start within 3 s",
    "start exits": "its process exited with code 0",
    "start leaves": "its process exited with code 3",
    "start returns nothing": "must return the service",
}


def named(mode: str) -> str:
    """Return a NAME for a mode."""
    return mode.replace(" ", "-")


@pytest.fixture(scope="module")
def failing() -> Iterator[Host]:
    """Run a service for each way not to start, and one that is well."""
    config = "[plugins.crash]\n[services.crash]\n" + "".join(
        crashing(named(mode), mode, start_timeout=3.0, grace=0.5)
        for mode in [*START_FAILURES, "start refuses"]
    )
    with hosting(config, ["crash"]) as host:
        yield host


@pytest.mark.parametrize(("mode", "reason"), START_FAILURES.items())
def test_a_start_that_fails_is_that_services_affair_alone(
    failing: Host, mode: str, reason: str
) -> None:
    """It is tried again later and later, without counting towards FAILED, and says why not."""
    name = named(mode)
    row = until(lambda: (r := failing.status(name))["reason"] and r["restarts"] > 0 and r)
    assert reason in row["reason"]
    assert row["state"] in {"backoff", "queued", "initializing", "starting", "stopping"}
    assert row["wanted"]
    assert failing.status("crash")["restarts"] == 0
    if "raises" in mode:
        assert row["traceback"][-1] == reason
        assert "crash.py" in "\n".join(row["traceback"])
        assert reason in failing.run("status", name).out


def test_a_permanent_failure_is_failed_at_once(failing: Host) -> None:
    """No retries: it waits for someone to act, and says for what."""
    row = failing.wait_for("start-refuses", "failed")
    assert row["reason"] == "bad token"
    assert row["restarts"] == 0
    assert row["again_in_s"] is None


def test_status_shows_that_a_wanted_service_does_not_run(failing: Host) -> None:
    """Exit code 3, for all and for one; 0 for one that runs."""
    assert failing.run("status").code == 3
    assert failing.run("status", "start-refuses").code == 3
    assert failing.run("status", "crash").code == 0


def test_orders_are_answered_while_others_fail(failing: Host) -> None:
    """`status`, `stop`, `restart` and `start` of a healthy service go on beside all that."""
    began = time.monotonic()
    failing.ask("status")
    failing.ask("restart", "crash")
    failing.ask("stop", "crash")
    failing.ask("start", "crash")
    assert failing.status("crash")["state"] == "running"
    assert time.monotonic() - began < SOON


def test_a_start_that_hangs_leaves_its_stacks_in_its_log(failing: Host) -> None:
    """Where a start blocks its loop, the function that it hangs in is in the service's log."""
    until(lambda: "crash.py" in failing.log("start-blocks"))
    assert re.search(r'File ".*crash.py", line \d+ in start', failing.log("start-blocks"))


def test_start_and_restart_say_why_not(failing: Host) -> None:
    """They return as soon as it is known that the service does not run by itself now."""
    for verb in ("start", "restart"):
        with pytest.raises(OrderFailed, match="cannot start: no connection") as caught:
            failing.ask(verb, "start-raises")
        assert caught.value.code == "StartError"
    with pytest.raises(OrderFailed, match="bad token"):
        failing.ask("start", "start-refuses")
    ran = failing.run("restart", "start-raises")
    assert ran.code == 1
    assert "no connection" in ran.err


def test_a_service_that_fails_to_start_can_be_stopped(failing: Host) -> None:
    """Whatever its start is doing."""
    names = ["start-hangs", "start-blocks", "start-raises", "init-hangs", "start-refuses"]
    states = failing.ask("stop", *names)["services"]
    assert states == dict.fromkeys(names, "stopped")
    rows = failing.rows()
    assert all(rows[name]["pid"] is None and not rows[name]["wanted"] for name in names)


def test_a_mended_service_starts_by_itself_and_by_order(host: Hosting, tmp_path: Path) -> None:
    """What was failed runs once its cause is gone: `reset` and `start` try it at once, and a
    start that failed for another reason is tried again by itself."""
    mended = tmp_path / "mended"
    config = (
        f'[plugins.crash]\n[defaults]\nenv = {{ MENDED = "{mended}" }}\n'
        + crashing("by-itself", "start raises")
        + crashing("by-reset", "start refuses")
        + crashing("by-start", "start refuses")
    )
    one = host(config, ["crash"])
    one.wait_for("by-reset", "failed")
    one.wait_for("by-start", "failed")
    mended.touch()
    one.ask("reset", "by-reset")
    one.wait_for("by-reset", "running")
    one.ask("start", "by-start")
    assert one.status("by-start")["state"] == "running"
    one.wait_for("by-itself", "running", 60)
    assert one.status("by-itself")["reason"] is None
    assert one.status("by-itself")["traceback"] == []


# --- services that end --------------------------------------------------------------------

ENDING = (
    "[plugins.crash]\n[defaults]\ngrace = 1.0\n[services.crash]\n"
    + crashing("spawn", "spawn raises", intensity=2)
    + crashing("every", "every raises", intensity=2)
    + crashing("transient", "", restart='"transient"')
    + crashing("temporary", "", restart='"temporary"')
    + crashing("ready", "ready", start_timeout=2.0)
    + crashing("stop-raises", "stop raises")
    + crashing("stop-hangs", "stop hangs")
    + crashing("counted", "", intensity=1)
)


@pytest.fixture(scope="module")
def ending() -> Iterator[Host]:
    """Run services that end in different ways."""
    with hosting(ENDING, ["crash"]) as host:
        yield host


@pytest.mark.parametrize("name", ["spawn", "every"])
def test_an_exception_in_background_work_is_a_crash(ending: Host, name: str) -> None:
    """Never a silent corpse: it is restarted, and past the intensity it is failed, with the
    traceback in `status` and in its log."""
    row = ending.wait_for(name, "failed")
    assert row["reason"] == "LookupError: the background failed"
    # Up to the first time that it failed: it is probed by itself later.
    states = [event["data"]["to"] for event in ending.events("service.state", name)]
    assert states[: states.index("failed")].count("running") == 3, states
    assert "in _raise" in "\n".join(row["traceback"])
    assert "LookupError: the background failed" in ending.log(name)
    assert 0 < row["again_in_s"] <= 15.0  # it is probed by itself, too


async def test_a_clean_end_of_a_permanent_service_is_restarted(ending: Host) -> None:
    """`permanent` runs always."""
    pid = ending.status("crash")["pid"]
    await ending.call("crash", "leave", 0)
    row = await asyncio.to_thread(ending.until_reborn, "crash", pid)
    assert row["restarts"] == 1


async def test_an_end_that_nothing_announced_is_a_crash(ending: Host) -> None:
    """Also with exit code 0; `transient` is restarted after it, but not after a clean end."""
    pid = ending.status("transient")["pid"]
    with pytest.raises(ServiceLost, match="exited with code 0"):
        await ending.call("transient", "exit", 0)
    await asyncio.to_thread(ending.until_reborn, "transient", pid)
    await ending.call("transient", "leave", 0)
    row = await asyncio.to_thread(ending.wait_for, "transient", "stopped")
    assert not row["wanted"]
    ending.ask("start", "transient")
    assert ending.status("transient")["state"] == "running"


async def test_a_temporary_service_is_never_restarted(ending: Host) -> None:
    """Once it has ended, it is no longer wanted."""
    ending.kill("temporary")
    row = await asyncio.to_thread(ending.wait_for, "temporary", "stopped")
    assert (row["wanted"], row["restarts"]) == (False, 0)


async def test_a_start_that_blocks_runs_once_it_is_ready(ending: Host) -> None:
    """`runtime.ready` makes it RUNNING; when its `start` returns, it has crashed."""
    pid = ending.wait_for("ready", "running")["pid"]
    assert await ending.call("ready", "pid") == pid
    await ending.call("ready", "hang_up")
    row = await asyncio.to_thread(ending.until_reborn, "ready", pid)
    assert row["restarts"] == 1


def test_more_crashes_than_the_intensity_are_a_failure_that_reset_forgives(ending: Host) -> None:
    """One restart is allowed here; after the second crash it is FAILED, and `reset` and `start`
    bring it back."""
    ending.until_reborn("counted", ending.kill("counted"))
    ending.kill("counted")
    row = ending.wait_for("counted", "failed")
    assert row["reason"] == "its process was killed by SIGKILL"
    ending.ask("reset", "counted")
    ending.wait_for("counted", "running")
    ending.until_reborn("counted", ending.kill("counted"))
    ending.kill("counted")
    ending.wait_for("counted", "failed")
    ending.ask("start", "counted")
    assert ending.status("counted")["state"] == "running"


async def test_calls_to_a_failed_service_end_at_once(ending: Host) -> None:
    """ServiceUnavailable, with the state."""
    await asyncio.to_thread(ending.wait_for, "spawn", "failed")
    with pytest.raises(ServiceUnavailable) as caught:
        await ending.call("spawn", "pid")
    assert caught.value.state == "failed"


def test_a_stop_that_raises_stops(ending: Host) -> None:
    """And says so."""
    assert ending.ask("stop", "stop-raises")["services"] == {"stop-raises": "stopped"}
    assert "RuntimeError: stop cannot" in ending.log("stop-raises")


def test_a_stop_that_hangs_is_killed_after_the_grace(ending: Host) -> None:
    """It ends within the grace and what TERM and KILL take."""
    pid = ending.status("stop-hangs")["pid"]
    began = time.monotonic()
    assert ending.ask("stop", "stop-hangs")["services"] == {"stop-hangs": "stopped"}
    assert not alive(pid)
    assert 0.9 < time.monotonic() - began < SOON


def test_a_restart_of_a_service_that_hangs_in_stop_runs_again(ending: Host) -> None:
    """Ordered restarts never count."""
    ending.ask("start", "stop-hangs")
    restarts, pid = ending.status("stop-hangs")["restarts"], ending.status("stop-hangs")["pid"]
    ending.ask("restart", "stop-hangs")
    row = ending.status("stop-hangs")
    assert row["pid"] != pid
    assert row["restarts"] == restarts


@pytest.mark.parametrize("verb", ["stop", "restart"])
async def test_calls_in_flight_may_end_before_a_stop(ending: Host, verb: str) -> None:
    """A worker that drains takes no new call, answers those that it has, and then stops; what
    takes longer than the grace is cancelled, and its caller gets an error."""
    async with ending.connect() as client:
        crash = found(client, "crash")
        pid = await crash.pid()
        under_way, too_long = crash.nap(0.3), crash.hang()
        assert await crash.pid() == pid  # both have begun
        order = asyncio.create_task(asyncio.to_thread(ending.ask, verb, "crash"))
        assert await under_way == pid
        with pytest.raises((RemoteError, ServiceLost)):
            await too_long
        await order
        if verb == "restart":
            assert await crash.pid() != pid
        else:
            with pytest.raises(ServiceUnavailable):
                await crash.pid()
            await asyncio.to_thread(ending.ask, "start", "crash")


# --- dependencies -------------------------------------------------------------------------

GRAPH = """
[plugins.signs]
config = {{ file = "{file}" }}
[services.signs]
[services.left]
plugin = "signs"
type = "signs"
depends_on = ["signs"]
[services.right]
plugin = "signs"
type = "signs"
depends_on = ["signs"]
[services.top]
plugin = "signs"
type = "signs"
depends_on = ["left", "right"]
[services.bound]
plugin = "signs"
type = "signs"
bind_to = ["right"]
[services.manual]
plugin = "signs"
type = "signs"
autostart = false
[services.listener]
autostart = false
"""


def signs(file: Path, what: str) -> list[str]:
    """Return the services that left a sign, in order."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return [name for name, sign in lines if sign == what]


def before(names: list[str], first: str, second: str) -> bool:
    """Tell whether one name comes before another."""
    return names.index(first) < names.index(second)


def test_starts_follow_dependencies_and_stops_are_the_exact_reverse(
    host: Hosting, tmp_path: Path
) -> None:
    """A service starts when what it depends on runs, and is gone before that stops; `init` runs
    once in each incarnation, before `start`."""
    file = tmp_path / "signs"
    one = host(GRAPH.format(file=file), ["signs"])
    assert one.end() == 0
    begun, ended = signs(file, "start"), signs(file, "stop")
    assert sorted(begun) == sorted(ended) == ["bound", "left", "right", "signs", "top"]
    for first, second in (("signs", "left"), ("signs", "right"), ("left", "top"), ("right", "top")):
        assert before(begun, first, second)
        assert before(ended, second, first)
    assert sorted(signs(file, "init")) == sorted(begun)
    lines = file.read_text().splitlines()
    assert all(lines.index(f"{name} init") < lines.index(f"{name} start") for name in begun)
    times = {
        (event["service"], event["data"]["to"]): n
        for n, event in enumerate(one.events("service.state"))
    }
    assert times["signs", "running"] < times["left", "initializing"]
    assert times["top", "stopped"] < times["left", "stopping"]
    assert times["left", "stopped"] < times["signs", "stopping"]


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Run services that depend on each other."""
    file = tmp_path_factory.mktemp("graph") / "signs"
    with hosting(GRAPH.format(file=file), ["signs"]) as host:
        yield host


async def test_dependents_of_a_stopped_service_run_on(graph: Host) -> None:
    """Their calls to it end at once, and it can be started again beneath them."""
    pids = {name: row["pid"] for name, row in graph.rows().items()}
    async with graph.connect() as client:
        proxy = found(client, "signs")
        await asyncio.to_thread(graph.ask, "stop", "signs")
        await until_true(lambda: (at := client.entry_of("signs")) and at.state is State.STOPPED)
        with pytest.raises(ServiceUnavailable) as caught:
            await proxy.pid()
        assert caught.value.state == "stopped"
        rows = await asyncio.to_thread(graph.rows)
        assert rows["left"]["pid"] == pids["left"]
        assert rows["top"]["pid"] == pids["top"]
        await asyncio.to_thread(graph.ask, "start", "signs")
        assert await proxy.pid() not in {None, pids["signs"]}
    assert graph.rows()["left"]["pid"] == pids["left"]


def test_a_bound_service_restarts_along(graph: Host) -> None:
    """After a crash and after an ordered restart of the one it is bound to; it does not count."""
    bound = graph.status("bound")
    graph.until_reborn("right", graph.kill("right"))
    again = graph.until_reborn("bound", bound["pid"])
    graph.ask("restart", "right")
    row = graph.until_reborn("bound", again["pid"])
    assert row["restarts"] == 0
    assert row["generation"] == bound["generation"] + 2
    assert {event["service"] for event in graph.events("service.taken_along")} == {"bound"}


def test_a_dependent_waits_for_what_it_needs(graph: Host) -> None:
    """While that is stopped, a start says what it waits for."""
    graph.ask("stop", "left", "top")
    with pytest.raises(OrderFailed, match="waits for left, which is stopped"):
        graph.ask("start", "top")
    graph.ask("start", "left")
    graph.wait_for("top", "running")


def test_a_restart_is_ordered_too(graph: Host) -> None:
    """Several at once, by a glob, run again, each as another process."""
    pids = {name: row["pid"] for name, row in graph.rows().items()}
    rows = graph.ask("restart", "left", "t*")["services"]
    assert {row["name"] for row in rows} == {"left", "top"}
    assert all(row["pid"] != pids[row["name"]] for row in rows)
    assert all(row["restarts"] == 0 for row in rows)


def test_orders_outlive_the_supervisor(host: Hosting, tmp_path: Path) -> None:
    """`stop` is remembered, and so is `start` of what does not start by itself."""
    one = host(GRAPH.format(file=tmp_path / "signs"), ["signs"])
    assert one.status("manual")["state"] == "registered"
    one.ask("stop", "bound")
    one.ask("start", "manual")
    one.restart()
    rows = one.rows()
    assert (rows["bound"]["state"], rows["bound"]["wanted"]) == ("stopped", False)
    assert (rows["manual"]["state"], rows["manual"]["wanted"]) == ("running", True)
    assert one.run("status").code == 0  # nothing that is wanted does not run
    one.ask("start", "bound")
    one.ask("stop", "manual")
    one.restart()
    rows = one.rows()
    assert rows["bound"]["state"] == "running"
    assert rows["manual"]["state"] in {"stopped", "registered"}


def test_a_cycle_is_a_config_error_that_names_its_path(host: Hosting) -> None:
    """`check` and `up` refuse it."""
    config = """
[plugins.signs]
[services.signs]
depends_on = ["b"]
[services.b]
plugin = "signs"
type = "signs"
depends_on = ["c"]
[services.c]
plugin = "signs"
type = "signs"
depends_on = ["signs"]
"""
    one = host(config, ["signs"], up=False)
    for words in (("check", "-c", str(one.config)), ("up", "-c", str(one.config))):
        ran = one.run(*words)
        assert ran.code == 5
        assert re.search(r"config\.toml:\d+: services\.\w+\.depends_on", ran.out + ran.err)
        assert "signs → b → c → signs" in ran.out + ran.err


# --- what is on disk ----------------------------------------------------------------------

ADVICE = """
from garrison.workers import Plugin, Service
class AdviceService(Service):
    service_type = "advice"
    async def get(self) -> str:
        return {text!r}
plugin = Plugin(name="advice", services=[AdviceService])
"""


async def test_restart_runs_what_is_on_disk(host: Hosting) -> None:
    """Edited code and edited config are what runs after a restart, of that service alone."""
    config = "[plugins.advice]\n[plugins.signs]\n[services.signs.config]\nword = '{word}'\n"
    one = host(config.format(word="one"), ["signs"], {"advice.py": ADVICE.format(text="old")})
    pid = one.status("signs")["pid"]
    assert await one.call("advice", "get") == "old"
    one.write("advice.py", ADVICE.format(text="new"))
    one.write("config.toml", config.format(word="two"))
    await asyncio.to_thread(one.ask, "restart", "advice")
    assert await one.call("advice", "get") == "new"
    assert await one.call("signs", "word") == "one"
    assert one.status("signs")["pid"] == pid
    await asyncio.to_thread(one.ask, "restart", "signs")
    assert await one.call("signs", "word") == "two"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("config.toml", "[plugins.advice]\n[services.advice]\ngrace = 'x'\n", "config.toml:3"),
        ("config.toml", "[plugins.advice\n", "not TOML"),
        ("config.toml", "[plugins.advice]\n[services.advice]\nsecrets = ['NONE']\n", "NONE"),
        ("config.toml", "[plugins.echo]\n", "advice"),
        ("advice.py", "raise RuntimeError('half edited')\n", "half edited"),
        ("advice.py", "def broken(:\n", "SyntaxError"),
    ],
)
async def test_a_running_service_stays_if_the_files_on_disk_are_unusable(
    host: Hosting, name: str, text: str, problem: str
) -> None:
    """An unusable config is exit 5, unusable code 1; the old process goes on answering."""
    one = host("[plugins.advice]\n", ["echo"], {"advice.py": ADVICE.format(text="old")})
    pid = one.status("advice")["pid"]
    one.write(name, text)
    ran = one.run("restart", "advice")
    assert ran.code == (5 if name == "config.toml" else 1)
    assert problem in ran.err
    assert one.status("advice")["pid"] == pid
    assert await one.call("advice", "get") == "old"


def test_a_plugin_that_cannot_be_imported_is_one_failed_row(host: Hosting) -> None:
    """Under its plugin's NAME, with the traceback's last lines; `restart` reads it again once it
    is mended, and what depends on it starts."""
    config = (
        '[plugins.advice]\n[plugins.signs]\n[services.signs]\ndepends_on = ["advice"]\n'
        "[services.listener]\n"
    )
    one = host(config, ["signs"], {"advice.py": "import json\nimport no_such_library\n"})
    row = one.status("advice")
    assert (row["state"], row["plugin"], row["wanted"]) == ("failed", "advice", True)
    assert "No module named 'no_such_library'" in row["reason"]
    assert row["traceback"][-1] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert "advice.py" in "\n".join(row["traceback"])
    assert one.status("listener")["state"] == "running"
    assert one.status("signs")["state"] == "queued"
    assert "advice" in one.status("signs")["reason"]
    with pytest.raises(OrderFailed, match="no_such_library"):
        one.ask("restart", "advice")
    one.write("advice.py", ADVICE.format(text="mended"))
    one.ask("restart", "advice")
    assert one.status("advice")["state"] == "running"
    one.wait_for("signs", "running")


async def test_a_preloaded_module_is_imported_once_for_all(host: Hosting) -> None:
    """In the launcher; where its file has changed, a restart takes a fresh launcher, and the
    others run on under the old one."""
    plugin = """
import heavy
from garrison.workers import Plugin, Service
class HeavyService(Service):
    service_type = "heavy"
    async def seen(self) -> list[int]:
        return [heavy.IMPORTED_IN, heavy.VALUE]
plugin = Plugin(name="heavy_user", services=[HeavyService])
"""
    library = "import os\nIMPORTED_IN = os.getpid()\nVALUE = {value}\n"
    config = (
        '[host]\npreload = ["heavy"]\n[plugins.heavy_user]\n[services.heavy]\n'
        '[services.second]\nplugin = "heavy_user"\n'
    )
    one = host(
        config, files={"heavy.py": library.format(value=1), "heavy_user.py": plugin}, up=False
    )
    one.env["PYTHONPATH"] = f"{ROOT / '.src'}:{one.folder}"
    one.up()
    launcher = one.launcher
    assert await one.call("heavy", "seen") == [launcher, 1]
    assert await one.call("second", "seen") == [launcher, 1]
    await asyncio.to_thread(one.ask, "restart", "heavy")
    assert one.launcher == launcher
    second = one.status("second")["pid"]

    one.write("heavy.py", library.format(value=222))
    await asyncio.to_thread(one.ask, "restart", "heavy")
    fresh = one.launcher
    assert fresh != launcher
    assert await one.call("heavy", "seen") == [fresh, 222]
    assert await one.call("second", "seen") == [launcher, 1]
    assert one.status("second")["pid"] == second
    assert alive(launcher)
    one.ask("restart", "second")
    assert await one.call("second", "seen") == [fresh, 222]
    until(lambda: not alive(launcher), what="the old launcher leaves with its last worker")


def test_a_preload_that_cannot_be_is_a_warning(host: Hosting) -> None:
    """Services run without; the launcher has one thread, and no socket but its own.

    One is not there, one raises, one starts threads, one leaves a socket open. One runs an event
    loop and closes it: that is no reason.
    """
    files = {
        "raising.py": "raise RuntimeError('no')\n",
        "threaded.py": (
            "import threading\n"
            "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        ),
        "opening.py": "import socket\nleft = socket.socket()\n",
        "looping.py": (
            "import asyncio, signal\n"  # it takes over the descriptor that signals wake by
            "async def main():\n"
            "    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, print)\n"
            "    await asyncio.to_thread(print)\n"  # its thread ends with the loop
            "asyncio.run(main())\n"
        ),
    }
    modules = ["not_there", "raising", "threaded", "opening", "looping"]
    config = f"[host]\npreload = {modules}\n[plugins.signs]\n"
    one = host(config, ["signs"], files, up=False)
    one.env["PYTHONPATH"] = f"{ROOT / '.src'}:{one.folder}"
    one.up()
    failed = {event["data"]["module"]: event for event in one.events("preload.failed")}
    assert set(failed) == {"not_there", "raising"}
    refused = {event["data"]["module"] for event in one.events("preload.refused")}
    assert refused == {"threaded", "opening"}
    assert one.status("signs")["state"] == "running"
    launcher = one.launcher
    assert len(list(Path(f"/proc/{launcher}/task").iterdir())) == 1
    one.until_reborn("signs", one.kill("signs"))
    one.ask("restart", "signs")
    assert one.launcher == launcher  # they are not tried again
    shown = " ".join(one.run("status").out.split())
    assert "! not preloaded: opening: its import leaves a socket open; each worker" in shown
    assert set(one.ask("status")["supervisor"]["not_preloaded"]) == refused


# --- crash loops --------------------------------------------------------------------------


def test_crash_loops_beside_healthy_services_hold_nothing_up(host: Hosting) -> None:
    """While several crash for ever, orders to them and to others are answered within seconds."""
    config = "[plugins.crash]\n[services.crash]\n" + "".join(
        crashing(f"loop-{n}", ("spawn raises", "start raises")[n % 2], intensity=0)
        for n in range(6)
    )
    one = host(config, ["crash"])
    until(lambda: all(one.status(f"loop-{n}")["restarts"] > 1 for n in range(6)))
    took: dict[str, float] = {}
    for verb, name in (("stop", "loop-0"), ("stop", "loop-1"), ("restart", "crash")):
        began = time.monotonic()
        one.ask("status")
        one.ask(verb, name)
        took[f"{verb} {name}"] = time.monotonic() - began
    assert max(took.values()) < SOON, took
    rows = one.rows()
    assert rows["loop-0"]["state"] == rows["loop-1"]["state"] == "stopped"
    assert rows["crash"]["restarts"] == 0
    began = time.monotonic()
    assert one.end() == 0
    assert time.monotonic() - began < SOON
