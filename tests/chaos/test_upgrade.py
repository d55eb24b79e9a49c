"""A supervisor is replaced with another config, or by another version: no service ends."""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_adoption import CONFIG, LEAK, PLUGINS, SLOW, comm, lives
from tests.support.host import ROOT, Hosting, found
from tests.support.proc import alive, descriptors
from tests.support.waiting import until

# --- another config -----------------------------------------------------------------------


def test_a_config_that_does_not_fit_ends_nothing(host: Hosting) -> None:
    """`up --strict` is refused and services keep running; `up` adopts them as accepted."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    one.write("config.toml", CONFIG + "[services.steady]\ndepends_on = ['absent']\n")
    assert one.start("--strict").wait(10) == 5
    assert "absent" in one.output
    one.up()
    assert lives(one) == before


def test_running_workers_keep_the_folder_of_sockets(host: Hosting, tmp_path: Path) -> None:
    """A config that moves it, or the state, would start all services a second time."""

    def moved(to: str) -> str:
        folders = [tmp_path / f"{to}{part}" for part in ("r", "s")]
        run, state = map(str, folders)
        return CONFIG.replace("[host]", f"[host]\nrun = {run!r}\nstate = {state!r}")

    one = host(moved("a"), PLUGINS)
    before = lives(one)
    one.write("config.toml", moved("b"))
    assert "Run garrison down" in one.run("upgrade").err
    one.end(signal.SIGKILL)
    assert one.start().wait(10) == 1
    assert "still use their sockets" in one.output
    one.write("config.toml", moved("a"))
    one.up()
    assert lives(one) == before


def test_a_service_removed_from_the_config_ends(host: Hosting) -> None:
    """An added one starts; the others are adopted."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    one.write("config.toml", CONFIG.replace("services.other", "services.third"))
    one.up()
    one.wait_for("third", "running")
    rows = one.rows()
    assert set(rows) == {"steady", "third"}
    assert (rows["steady"]["pid"], rows["steady"]["generation"]) == before["steady"]
    until(lambda: not alive(before["other"][0]), what="what is no service any more is gone")


def test_a_service_removed_from_the_config_ends_in_order(host: Hosting) -> None:
    """It gets time to stop."""
    slow = "[plugins.slow]\n[services.slow]\ngrace = 10.0\n"
    one = host(CONFIG + slow, PLUGINS, {"slow.py": SLOW})
    pid = lives(one)["slow"][0]
    one.end(signal.SIGKILL)
    one.write("config.toml", CONFIG)
    one.up()
    until(lambda: not alive(pid))
    assert (one.folder / "slow.stopped").exists()


def test_a_shorter_watchdog_is_the_next_incarnations(host: Hosting) -> None:
    """The adopted incarnation keeps the watchdog that it was started with."""
    one = host(CONFIG.replace("watchdog = 2.0", "watchdog = 8.0"), PLUGINS)
    before = lives(one)
    one.end(signal.SIGKILL)
    one.write("config.toml", CONFIG.replace("watchdog = 2.0", "watchdog = 0.4"))
    one.up()
    until(lambda: (one.status("steady")["beat_age_s"] or 0) > 0.5, what="a beat is late")
    assert lives(one) == before
    one.ask("restart", "steady")
    pid = one.kill("steady", signal.SIGSTOP)
    one.until_reborn("steady", pid)
    assert "0.4 s" in str(one.events("service.state", "steady"))


def test_no_plugin_probe_outlives_the_host(host: Hosting) -> None:
    """Nor does a probe under an adopted launcher delay the end."""
    one = host(CONFIG, PLUGINS, {"stuck.py": "import time\ntime.sleep(100)\n"})
    one.end(signal.SIGKILL)
    one.write("config.toml", CONFIG + "[plugins.stuck]\n")
    one.start()
    until(lambda: "reads:stuck" in {comm(pid) for pid in one.processes()})
    assert one.end() == 0
    assert not one.processes()


# --- upgrade ------------------------------------------------------------------------------


async def test_an_upgrade_loses_no_service(host: Hosting) -> None:
    """The workers stay, the supervisor is another; calls of programs continue. It can be
    repeated."""
    one = host(CONFIG + LEAK, PLUGINS)
    before, boot = lives(one), one.ask("status")["supervisor"]["boot"]
    open_before = len(descriptors(one.pid))
    async with one.connect() as client:
        steady = found(client, "steady")
        for _ in range(2):
            ran = await asyncio.to_thread(one.run, "upgrade")
            assert ran.code == 0, ran
            assert f"pid {one.pid}" in ran.out
            assert "the version is the same" in ran.out
            assert f"\n{len(before)} services run on\n" in ran.out
            assert await steady.relay("other", "pid") == ["result", before["other"][0]]
    head = one.head()
    assert head is not None
    assert (head["pid"], head["boot"] != boot) == (one.pid, True)
    assert lives(one) == before
    until(lambda: len(descriptors(one.pid)) <= open_before, what="no descriptor is inherited")
    assert one.run("up", "-c", str(one.config)).code == 1  # the home is still taken


def test_orders_in_the_middle_of_an_upgrade_are_carried_out(host: Hosting) -> None:
    """No client gets SupervisorGone, not even one that upgrades at the same time."""
    one = host("[plugins.echo]", ["echo"])
    with ThreadPoolExecutor(2) as pool:
        upgrades = [pool.submit(one.run, "upgrade") for _ in range(2)]
        orders = 0
        while not all(upgrade.done() for upgrade in upgrades):
            assert one.status("echo")["state"] == "running"
            orders += 1
    assert orders > 10
    for upgrade in upgrades:
        ran = upgrade.result()
        assert ran.code == 0, ran.err


def test_an_upgrade_with_a_config_that_does_not_fit_changes_nothing(host: Hosting) -> None:
    """The check fails before the running supervisor ends."""
    one = host(CONFIG, PLUGINS)
    boot = one.ask("status")["supervisor"]["boot"]
    one.write("config.toml", CONFIG + "[services.steady]\ndepends_on = ['absent']\n")
    ran = one.run("upgrade")
    assert ran.code == 5
    assert "absent" in ran.err
    assert ran.err.endswith(". Nothing was changed: correct it, then run garrison upgrade\n")
    assert one.ask("status")["supervisor"]["boot"] == boot


async def test_calls_wait_while_an_upgrade_is_under_way(host: Hosting) -> None:
    """Calls of programs during an upgrade are answered, not lost with the old router."""
    one = host(CONFIG, PLUGINS)
    async with one.connect() as client:
        steady, calls = found(client, "steady"), list[asyncio.Future[Any]]()
        upgrade = asyncio.ensure_future(asyncio.to_thread(one.run, "upgrade"))
        while not upgrade.done():
            calls += [asyncio.ensure_future(steady.relay("other", "pid"))]
            await asyncio.sleep(0.005)
        assert (await upgrade).code == 0
        pid = one.rows()["other"]["pid"]
        assert await asyncio.gather(*calls) == [["result", pid]] * len(calls)


def test_an_upgrade_to_a_broken_version_changes_nothing(host: Hosting, tmp_path: Path) -> None:
    """The running supervisor tries the new version in a process of its own first."""
    tree = tmp_path / "garrison"
    for part in ("ipc", "supervisor", "workers"):
        shutil.copytree(ROOT / part, tree / part)
    one = host(CONFIG, PLUGINS, env={"PYTHONPATH": str(tmp_path)})
    head, before = one.head(), lives(one)
    (tree / "supervisor" / "loop.py").write_text("def broken(:\n")
    ran = one.run("upgrade", env={"PYTHONPATH": str(ROOT / ".src")})
    assert ran.code == 1
    assert "loop.py" in ran.err
    assert head is not None
    now = one.head()
    assert now is not None
    assert now["boot"] == head["boot"]
    assert lives(one) == before


@pytest.mark.parametrize("wait", [0.0, 0.1, 0.3])
def test_a_signal_during_an_upgrade_is_obeyed(host: Hosting, wait: float) -> None:
    """By the old supervisor or the new one: everything ends in order."""
    one = host(CONFIG, PLUGINS)
    one.ask("upgrade", once=True, python=sys.executable)
    assert one.process is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        one.process.wait(wait)
    assert one.end() == 0
    assert not one.processes()


def test_a_worker_of_another_version_is_replaced_and_named(host: Hosting) -> None:
    """It drains first; workers with a known version are adopted."""
    env = '[services.steady]\nenv = { WIRE = "99" }\n'
    one = host(CONFIG + env, PLUGINS)
    before = lives(one)
    assert one.run("upgrade").code == 0
    row = one.until_reborn("steady", before["steady"][0])
    assert row["generation"] == before["steady"][1] + 1
    assert row["restarts"] == 0
    assert "wire 99" in str(one.events("service.replaced", "steady"))
    assert lives(one)["other"] == before["other"]
