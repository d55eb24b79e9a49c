"""Two teams on one host: services under the Python of a venv, with a library that differs."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import LONG_GRACE, Host, hosting
from tests.support.proc import bearing
from tests.support.venvs import make_venv
from tests.support.waiting import until

from garrison.supervisor.processes.early_launcher import LAUNCHER

BOT = '''
import os
import sys
from garrison.workers import Plugin, Service
import colours

class Bot(Service):
    service_type = "{name}"

    async def about(self) -> list[str]:
        """Return what this process is."""
        of_host = [name for name in ("PYTHONPATH", "VIRTUAL_ENV") if name in os.environ]
        return [sys.executable, colours.VERSION, *of_host]

    async def of(self, name: str) -> list[str]:
        """Return what another one is."""
        return await self.runtime.get_service(name).about()

plugin = Plugin(name="{name}", services=[Bot])
'''
CONFIG = (
    LONG_GRACE
    + """
[plugins.own]
[plugins.red]
python = "red/bin/python"
[plugins.blue]
python = "{blue}"
[services.blue-2]
plugin = "blue"
"""
)
TEAMS = ("own", "red", "blue", "blue-2")


@pytest.fixture(scope="module", name="one")
def _one() -> Iterator[Host]:
    """Run a host with two venvs, each with another version of one library."""
    files = {f"{name}.py": BOT.format(name=name) for name in ("own", "red", "blue")}
    files["colours.py"] = 'VERSION = "0"\n'
    env = {"PYTHONPATH": "/nowhere", "VIRTUAL_ENV": sys.prefix}
    with hosting(files=files, up=False, env=env, forked=False) as host:
        blue = make_venv(host.folder / "blue", colours='VERSION = "2"\n')
        make_venv(host.folder / "red", colours='VERSION = "1"\n')
        host.write("config.toml", CONFIG.format(blue=blue))
        yield host.up()


def launchers(one: Host) -> dict[str, int]:
    """Return the pid of each launcher that is the supervisor's child, by its interpreter."""
    found: dict[str, int] = {}
    for pid in bearing(one.mark):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
            name = Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue
        # What a launcher forks has a name of its own, also without its launcher. The supervisor
        # starts an interpreter for other ends too: to read its plugins.
        if LAUNCHER in words and int(parent) in {1, one.pid} and name.startswith("python"):
            found[words[0].removeprefix(f"{one.folder}/")] = pid
    return found


def launchers_after(one: Host, before: dict[str, int]) -> dict[str, int]:
    """Return the launchers once one has taken the place of another."""

    def replaced() -> dict[str, int] | None:
        now = launchers(one)
        return now if now != before and len(now) == len(before) else None

    found = until(replaced)
    assert found is not None
    return found


async def about(one: Host, caller: str) -> dict[str, list[str]]:
    """Return what a service learns from each other one."""
    return {name: await one.call(caller, "of", name) for name in TEAMS if name != caller}


async def test_each_team_has_its_own_libraries(one: Host) -> None:
    """And they call each other; no variable of the host's own interpreter is passed on."""
    red, blue = (str(one.folder / name / "bin" / "python") for name in ("red", "blue"))
    expected = {"red": [red, "1"], "blue": [blue, "2"], "blue-2": [blue, "2"]}
    of_host = ["PYTHONPATH", "VIRTUAL_ENV"]
    assert await about(one, "own") == expected
    for team in ("red", "blue"):
        found = await about(one, team)
        assert found.pop("own") == [sys.executable, "0", *of_host]
        assert found == {name: what for name, what in expected.items() if name != team}
    versions = {".".join(map(str, sys.version_info[:3]))}
    rows = one.rows()
    assert rows["own"]["python"] is None
    assert [rows[name]["python"]["path"] for name in TEAMS[1:]] == [red, blue, blue]
    assert {rows[name]["python"]["version"] for name in TEAMS[1:]} == versions
    shown = one.run("status", env={"COLUMNS": "100"}).out.splitlines()
    assert shown[1].split()[-1] == "PYTHON"
    assert f"({red}), garrison 0.1.0, wire 1" in one.run("status", "red").out
    assert one.run("check").code == 0


async def test_what_is_killed_comes_back_under_its_own_interpreter(one: Host) -> None:
    """A worker, its launcher, and the supervisor, whose successor takes over all launchers."""
    before = launchers(one)
    assert len(before) == 3
    one.until_reborn("red", one.kill("red"))
    os.kill(before["red/bin/python"], signal.SIGKILL)
    after = launchers_after(one, before)
    assert {name for name in before if before[name] != after[name]} == {"red/bin/python"}
    red = one.status("red")["pid"]
    assert one.end(signal.SIGKILL) == -signal.SIGKILL
    one.up()
    assert launchers(one) == after, one.events("launcher.lost")
    assert one.status("red")["pid"] == red
    one.until_reborn("red", one.kill("red"))
    assert (await about(one, "own"))["red"][1] == "1"
    assert launchers(one) == after, one.events("launcher.lost")


def details(one: Host) -> dict[str, list[str]]:
    """Return what `diff` shows of each service."""
    return {row["name"]: row["details"] for row in one.run("diff", json=True).data["services"]}


async def test_a_venv_that_was_made_anew_is_pending(one: Host) -> None:
    """`apply` restarts its services under a new launcher; the others run on."""
    pids, before = {name: row["pid"] for name, row in one.rows().items()}, launchers(one)
    assert details(one) == {}
    os.utime(one.folder / "blue" / "pyvenv.cfg", (1, 1))
    found = details(one)
    assert set(found) == {"blue", "blue-2"}
    assert found["blue"] == [f"python {one.folder}/blue/bin/python: its venv or garrison changed"]
    one.ask("apply")
    after = {name: row["pid"] for name, row in one.rows().items()}
    assert {name for name in pids if pids[name] != after[name]} == {"blue", "blue-2"}
    now = launchers_after(one, before)
    assert {name for name in now if now[name] != before[name]} == {"blue/bin/python"}
    assert details(one) == {}


async def test_an_interpreter_of_no_use_holds_back_its_own_services(one: Host) -> None:
    """A restart that would end the running one is refused, with the reason."""
    config = one.config.read_text()
    red, blue = one.status("red")["pid"], one.status("blue")["pid"]
    one.write("config.toml", config.replace("red/bin", "gone/bin"))
    path = f"{one.folder}/gone/bin/python"
    assert details(one)["red"] == [f"python {one.folder}/red/bin/python → {path}"]
    refused = one.run("restart", "red")
    assert (refused.code, f"there is no {path}" in refused.err) == (1, True), refused
    assert "the running one stays" in refused.err
    assert one.run("restart", "blue").code == 0
    assert one.status("red")["pid"] == red
    assert one.status("blue")["pid"] != blue
    checked = one.run("check")
    assert checked.code == 5
    assert f"plugin red cannot be read: there is no {path}" in checked.out + checked.err
    one.write("config.toml", config)
    one.ask("restart", "red")
    assert (await about(one, "own"))["red"][1] == "1"


async def test_an_upgrade_takes_every_launcher_along(one: Host) -> None:
    """Services run on."""
    pids, before = {name: row["pid"] for name, row in one.rows().items()}, launchers(one)
    done = one.run("upgrade")
    assert done.code == 0, done
    assert {name: row["pid"] for name, row in one.rows().items()} == pids
    assert launchers(one) == before
    assert (await about(one, "red"))["blue"][1] == "2"
