"""`garrison update`: a new version runs, or the former one does, packages and data; never half.

The host runs by an environment of its own with a wheel of this checkout; wheels are made here.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, Ran, hosting
from tests.support.updates import environment, garrison_wheel, plugin_wheel
from tests.support.waiting import until

from garrison.supervisor.cli.update_packages import link_environment

pytestmark = [
    pytest.mark.external,  # minutes: each start of a command has another interpreter's imports
    pytest.mark.skipif(sys.platform != "linux", reason="an update exchanges paths by renameat2"),
]
CONFIG = (
    LONG_GRACE
    + """
[plugins.mailbox]
[plugins.moody]
[services.moody]
health_interval = 0.2
grace = 3.0
"""
)
PERIOD = ("--period", "0.5")
# Runs the command line, and stops the process once the journal has a phase
STOPPING = """
import os, signal, sys
phase = sys.argv.pop(1)
from garrison.supervisor.cli import update_steps
def stop(state, update):
    write(state, update)
    if update.phase.value == phase and update.passed[:1] == ("moody",)[:phase != "staging"]:
        update_steps.write_update = write
        os.kill(os.getpid(), signal.SIGSTOP)
write, update_steps.write_update = update_steps.write_update, stop
from garrison.supervisor.cli import main
main()
"""


class Updated:
    """A host that can be updated, and the wheels for it."""

    def __init__(self, host: Host, installed: Path) -> None:
        self.host, self.wheels = host, host.folder / "wheels"
        self.venv = host.folder / ".venv"
        link_environment(installed, self.venv, lambda _: None)
        host.python = str(self.venv / "bin" / "python")

    def words(self, version: str, mood: str = "", needs: str = "") -> tuple[str, ...]:
        """Return the words of an update to a version of the plugin."""
        plugin = plugin_wheel(self.wheels, "moody", version, mood, needs)
        return ("--plugin", f"moody={plugin}")

    @property
    def garrison(self) -> tuple[str, ...]:
        """Return the words of an update to a version of garrison."""
        return ("--from", str(garrison_wheel(self.wheels, "0.2.0")))

    def run(self, *words: str, json: bool = False) -> Ran:
        """Run an update."""
        return self.host.run("update", *words, json=json, timeout=200.0)

    def begin(self, phase: str, *words: str) -> subprocess.Popen[bytes]:
        """Start an update that stops at a phase; return once it has."""
        command = [self.host.python, "-P", "-c", STOPPING, phase, "--home", str(self.host.home)]
        with (self.host.folder / "update.out").open("wb") as out:
            process = subprocess.Popen(
                [*command, "update", *words],
                cwd=self.host.folder,
                env=self.host.environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )

        def stopped() -> bool:
            assert process.poll() is None, (self.host.folder / "update.out").read_text()
            stat = Path(f"/proc/{process.pid}/stat").read_text()
            return stat.rpartition(")")[2].split()[0] == "T"

        until(stopped, 200.0, f"the update is at {phase}")
        return process

    def about(self) -> list[str]:
        """Return the service's version and environment, and which versions its data has seen."""
        found: list[str] = asyncio.run(self.host.call("moody", "about"))
        return found

    @property
    def journal(self) -> dict[str, Any]:
        """Return the update's journal."""
        found: dict[str, Any] = json.loads((self.host.home / "state" / "update.json").read_text())
        return found

    def new_launcher(self) -> int:
        """Return the pid of the launcher of the new version."""
        python = f"{self.venv}.versions/2/bin/python"
        for pid in self.host.processes():
            if comm(pid) == "python":
                words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
                if words[0] == python and f"python={python}" in words:
                    return pid
        pytest.fail("the new version has no launcher")

    def installed(self) -> str:
        """Return the version of garrison at the environment's path."""
        return self.host.run("--version").out.split()[1]

    def check_former(self) -> None:
        """Check that everything is as before."""
        version, prefix, *seen = self.about()
        assert (version, seen[0], set(seen)) == ("1.0", "1.0", {"1.0"})
        assert prefix == str(self.venv)
        assert not self.venv.is_symlink()
        assert not (self.host.folder / ".venv.versions" / "2").exists()
        assert self.installed() == "0.1.0"
        self._check_whole("0.1.0", str(self.venv))

    def check_new(self, garrison: str) -> None:
        """Check that everything is new."""
        version, prefix, *seen = self.about()
        assert (version, seen[:2], set(seen[1:])) == ("2.0", ["1.0", "2.0"], {"2.0"})
        assert Path(prefix).resolve() == self.venv.resolve()
        assert self.venv.resolve().name == "2"
        assert self.installed() == garrison
        self._check_whole(garrison, str(self.venv.resolve()))

    def _check_whole(self, version: str, folder: str) -> None:
        """Check that one version runs, with one process a service."""
        head = self.host.head()
        assert head is not None
        assert head["version"] == version
        rows = self.host.rows()
        assert {row["state"] for row in rows.values()} == {"running"}
        assert {row["python"] for row in rows.values()} == {None}
        pids = {row["pid"] for row in rows.values()} | {head["pid"]}
        assert len(pids) == 3
        assert self.host.run("diff").code == 0
        names = [comm(pid) for pid in self.host.processes()]
        assert sorted(one for one in names if one.startswith("g:")) == sorted(
            f"g:{one}" for one in rows
        )
        by = {Path(f"/proc/{pid}/cmdline").read_text().split("\0")[0] for pid in pids}
        assert {str(Path(one).parent.parent.resolve()) for one in by} == {folder}


def comm(pid: int) -> str:
    """Return a process's name; a worker has its service's."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.fixture(scope="session", name="installed")  # each process of the tests makes one
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment with version 0.1.0 of garrison and 1.0 of the plugin."""
    folder = tmp_path_factory.mktemp("installed")
    wheels = (garrison_wheel(folder, "0.1.0"), plugin_wheel(folder, "moody", "1.0"))
    return environment(folder / "venv", *wheels)


@pytest.fixture(name="one")
def _one(installed: Path) -> Iterator[Updated]:
    """Run a host by an environment of its own."""
    with hosting(CONFIG, up=False, env={"PYTHONPATH": ""}) as host:
        updated = Updated(host, installed)
        host.up()
        yield updated


def test_a_version_that_runs_is_taken_and_left_again(one: Updated) -> None:
    """Services move one by one, the path follows, and `--back` goes the same way."""
    words = (*one.garrison, *one.words("2.0"))
    planned = one.run(*words, "--dry-run")
    assert planned.code == 0
    assert "garrison 0.1.0 → 0.2.0\nmoody 1.0 → 2.0\n" in planned.out
    assert "restarts, in this order: moody, mailbox" in planned.out
    one.check_former()

    done = one.run(*words, *PERIOD, json=True)
    assert done.code == 0, done
    assert done.data["services"] == ["moody", "mailbox"]
    assert done.data["packages"]["moody"] == {"from": "1.0", "to": "2.0"}
    assert Path(done.data["backup"]).stat().st_mode & 0o777 == 0o600
    one.check_new("0.2.0")
    names = [event["event"] for event in one.host.events() if event["event"].startswith("update.")]
    assert names == ["update.begun", "update.moved", "update.moved", "update.done"]
    script = (one.venv / "bin" / "garrison").read_text().splitlines()[0]
    assert script == f"#!{one.venv}/bin/python"  # not that of the staged folder

    one.host.restart()  # by the path, as a unit does
    assert (one.about())[0] == "2.0"
    back = one.run("--back", *PERIOD)
    assert back.code == 0, back
    version, prefix, *seen = one.about()
    assert version == "1.0"
    assert Path(prefix).resolve() == one.venv.resolve()
    assert seen[:2] == ["1.0", "2.0"]  # data is kept: services have worked with it since
    assert one.installed() == "0.1.0"
    again = one.run("--back", *PERIOD)
    assert again.code == 0, again
    assert (one.about())[0] == "2.0"


@pytest.mark.parametrize(
    ("mood", "reason"),
    [("refuses", "version 2.0 is not in the mood"), ("unwell", "its health is not good")],
)
def test_a_version_that_does_not_run_is_put_back(one: Updated, mood: str, reason: str) -> None:
    """Packages and data; what the new version has written is set aside."""
    done = one.run(*one.words("2.0", mood), "--period", "20", json=True)
    assert done.code == 1
    error = done.answer["error"]["message"]
    assert reason in error
    assert "was put back" in error
    aside = Path(done.data["set_aside"])
    assert (aside / "moody" / "versions").read_text().split() == ["1.0", "2.0"]
    one.check_former()
    assert one.host.events("update.put_back")[-1]["data"]["reason"] in error
    assert one.run("--back").code == 1

    good = one.run(*one.words("2.0"), *PERIOD)
    assert good.code == 0, good
    assert (one.about())[0] == "2.0"


@pytest.mark.parametrize(
    ("phase", "killed"),
    [
        ("staging", "both"),
        *(("moving", one) for one in ("command", "supervisor", "both", "launcher")),
        *(("handing", one) for one in ("command", "supervisor", "both")),
        *(("committing", one) for one in ("command", "both")),
    ],
)
def test_a_kill_at_any_step_leaves_one_version(one: Updated, phase: str, killed: str) -> None:
    """The next `up` runs one version or the other, whole: one process a service, no orphan."""
    command = one.begin(phase, *one.words("2.0"), *PERIOD)
    if killed in {"command", "both"}:
        command.kill()
        command.wait()
    if killed in {"supervisor", "both"}:
        one.host.end(signal.SIGKILL)
    if killed == "launcher":
        os.kill(one.new_launcher(), signal.SIGKILL)
    if killed in {"supervisor", "launcher"}:
        command.send_signal(signal.SIGCONT)
        command.wait(200)
    if killed == "both":
        one.host.up()
    until(lambda: one.journal["phase"] in {"done", "put_back"} or phase == "staging", 120.0)
    until(lambda: (one.host.head() or {}).get("settled"), 60.0)
    if phase == "staging":
        assert one.run("--back").code == 1  # and what was staged is removed
    # With its launcher killed, a service that had passed starts again, and the update goes on
    if phase == "committing" or (killed == "launcher" and one.journal["phase"] == "done"):
        one.check_new("0.1.0")
    else:
        one.check_former()


def test_what_is_missing_is_named_before_anything_is_touched(one: Updated) -> None:
    """No index is used; a plugin that has an interpreter of its own is updated there."""
    before = {name: row["pid"] for name, row in one.host.rows().items()}
    done = one.run(*one.words("2.0", needs="no-such-library>=3"))
    assert done.code == 1
    assert "no-such-library>=3" in done.err
    assert "No package index was asked" in done.err
    assert one.run("--plugin", f"other={plugin_wheel(one.wheels, 'other', '1.0')}").code == 2
    assert one.run("--from", str(plugin_wheel(one.wheels, "moody", "1.0"))).code == 2
    assert one.run().code == 2
    held = one.begin("staging", *one.words("2.0"))
    busy = one.run(*one.words("2.0"))
    assert (busy.code, "an update of this host is under way" in busy.err) == (1, True)
    held.send_signal(signal.SIGCONT)
    held.send_signal(signal.SIGTERM)
    held.wait(60)
    assert {name: row["pid"] for name, row in one.host.rows().items()} == before
    one.check_former()
