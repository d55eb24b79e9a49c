"""Others remove, move or take the paths of a running host: it restores its own, or yields."""

import json
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.test_adoption import CONFIG, PLUGINS, kill_launcher_and_supervisor, lives
from tests.support.host import Host, Hosting
from tests.support.proc import alive
from tests.support.waiting import until

from garrison.ipc.system.process_tree import start_ticks
from garrison.supervisor.state.holders import find_holder

LOOKS_S = 1.2  # two looks of a launcher at its path


def remove_sockets(one: Host) -> None:
    """Remove what a cleaner of temporary files removes."""
    for path in (one.home / "run").glob("*.sock"):
        path.unlink()


def replace_sockets(one: Host) -> None:
    """Put other files in place of the sockets."""
    for path in (one.home / "run").glob("*.sock"):
        path.unlink()
        path.touch()


def remove_run(one: Host) -> None:
    """Remove the folder of sockets and locks."""
    shutil.rmtree(one.home / "run")


def remove_home(one: Host) -> None:
    """Remove everything."""
    shutil.rmtree(one.home)


def move_home(one: Host) -> None:
    """Move everything away."""
    one.home.rename(one.folder / "moved")


def move_home_and_back(one: Host) -> None:
    """Move everything away, and back once another home was made in its place."""
    moved = one.folder / "moved"
    one.home.rename(moved)
    until(lambda: len(sockets_of(one)) == 3)
    until(lambda: is_said_in(one.home) or is_said_in(moved))  # the log of events moves likewise
    one.home.rename(one.folder / "other")
    moved.rename(one.home)
    shutil.rmtree(one.folder / "other")


def is_said_in(home: Path) -> bool:
    """Return whether the events of a home say that sockets were restored."""
    events = home / "logs" / "events.jsonl"
    return events.exists() and "host.sockets_restored" in events.read_text()


def sockets_of(one: Host) -> list[str]:
    """Return the names of the sockets at which a process listens."""
    names = []
    for path in (one.home / "run").glob("*.sock"):
        kind = socket.SOCK_SEQPACKET if "launcher" in path.name else socket.SOCK_STREAM
        with socket.socket(socket.AF_UNIX, kind) as probe:
            if probe.connect_ex(str(path)) == 0:
                names.append(path.name)
    return sorted(names)


@pytest.mark.parametrize(
    "spoil",
    [remove_sockets, replace_sockets, remove_run, remove_home, move_home, move_home_and_back],
)
def test_what_is_removed_is_restored(host: Hosting, spoil: Callable[[Host], None]) -> None:
    """The command line reaches the supervisor, a killed worker returns, and the next supervisor
    adopts the workers, which run on."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    spoil(one)
    assert one.run("status").code == 0  # it waits for the socket, as the lock is held or restored
    until(lambda: len(sockets_of(one)) == 3)
    if spoil is not move_home_and_back:  # that it was said went with the other home
        until(lambda: "control.sock" in str(one.events("host.sockets_restored")), what="it is said")
    assert one.run("up").code == 1
    killed = one.kill("other")
    one.until_reborn("other", killed)
    before = lives(one)
    until((one.home / "state" / "living.json").exists)
    one.end(signal.SIGKILL)
    one.up()
    assert lives(one) == before
    assert one.events("supervisor.adopts")[-1]["data"]["launchers"] == 1


def test_who_has_the_lock_but_no_socket_is_named(host: Hosting) -> None:
    """A stopped supervisor cannot restore its sockets: the error tells it from one that is gone."""
    one = host(CONFIG, PLUGINS)
    os.kill(one.pid, signal.SIGSTOP)
    remove_sockets(one)
    try:
        for verb in ("status", "down"):
            ran = one.run(verb, json=True)
            assert ran.code == 7
            assert ran.answer["error"]["code"] == "socket_missing"
            assert f"pid {one.pid}" in ran.answer["error"]["message"]
    finally:
        os.kill(one.pid, signal.SIGCONT)
    one.end()
    assert one.run("status", json=True).answer["error"]["code"] == "no_supervisor"


def test_a_stray_connection_does_not_end_a_launcher(host: Hosting) -> None:
    """Neither beside a supervisor nor without one; what it refused is in its log."""
    one = host(CONFIG, PLUGINS)
    before, launcher = lives(one), one.launcher

    def stray() -> None:
        path = next((one.home / "run").glob("launcher-*.sock"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
            connection.connect(str(path))
            connection.settimeout(10)
            assert connection.recv(100) == b""  # it is closed, and no inventory was sent

    stray()
    one.end(signal.SIGKILL)
    stray()
    one.up()
    assert one.launcher == launcher
    assert alive(launcher)
    assert lives(one) == before
    assert f"a connection of process {os.getpid()}" in one.log("launcher")
    assert not one.events("launcher.lost")


# --- one config, one host -----------------------------------------------------------------


def release(folder: Path, name: str, one: Host) -> Path:
    """Make a release of an application, with a host's config and plugins."""
    made = folder / name
    made.mkdir()
    for path in (one.config, *one.folder.glob("*.py")):
        shutil.copy(path, made)
    return made


def point(link: Path, target: Path) -> None:
    """Move a link, as a deployment does."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.rename(link)


def test_a_link_that_moves_changes_nothing_for_a_running_host(host: Hosting) -> None:
    """Its home stays where the link led when it was started. A second host of the config is
    refused under each of the config's paths; commands find the one that runs."""
    one = host(CONFIG, PLUGINS, up=False)
    first, second = release(one.folder, "1", one), release(one.folder, "2", one)
    current = one.folder / "current"
    point(current, first)
    one.home, one.config = current / ".garrison", current / "config.toml"
    one.up()
    point(current, second)
    one.home = first / ".garrison"
    killed = one.kill("other")
    one.until_reborn("other", killed)
    pid = str(one.pid)
    for config in (current / "config.toml", first / "config.toml", "1/../current/config.toml"):
        for home in (one.folder / "h2", second / ".garrison"):
            for detach in ((), ("--detach",)):
                ran = one.run("--home", str(home), "up", "-c", str(config), *detach, home=False)
                assert ran.code == 1
                assert all(text in ran.err for text in (pid, str(one.home), str(home), "--another"))
                assert not home.exists()
    shell = ("sh", "-c", f'cd {current} && exec "$@"', "sh")
    assert "other" in one.run("status", home=False, before=shell).out
    assert one.run("upgrade", home=False, before=shell).code == 0
    assert one.run("up", "-c", str(current / "config.toml"), home=False).code == 1
    assert one.run("down", home=False, before=shell).code == 0
    one.end()


def test_another_host_of_a_config_is_allowed_when_asked_for(host: Hosting) -> None:
    """It takes the config's names when the first host gives them up."""
    one = host(CONFIG, PLUGINS)
    other = ("--home", str(one.folder / "h2"))
    up = (*other, "up", "-c", str(one.config), "--detach")
    try:
        assert one.run(*up, home=False).code == 1
        assert one.run(*up, "--another", home=False).code == 0
        assert one.run("status").code == one.run(*other, "status", home=False).code == 0
        assert one.end() == 0
        until(lambda: (found := find_holder((one.config,))) and found.home == other[1])
        assert other[1] in one.run("up", "-c", str(one.config), "--detach").err
    finally:
        one.run(*other, "down", home=False)


@pytest.mark.parametrize("early", [False, True])
def test_a_home_that_another_host_has_taken_is_left_to_it(host: Hosting, early: bool) -> None:
    """Where the home was moved and another supervisor runs at its path, the first one ends its own
    services and removes nothing of the other's. The other does not take its launcher over."""
    patient = CONFIG.replace("watchdog = 2.0", "watchdog = 20.0")  # it is about no watchdog
    one, two = host(patient, PLUGINS), host(patient, PLUGINS, up=False)
    os.kill(one.pid, signal.SIGSTOP)
    one.home.rename(one.folder / "moved")
    if early:  # the launcher looks at its path before the other host has its lock there
        (one.home / "run").mkdir(mode=0o700, parents=True)
        with pytest.raises(pytest.fail.Exception):
            until(lambda: sockets_of(one), LOOKS_S)
    two.home = one.home
    two.up()
    before = lives(two)
    os.kill(one.pid, signal.SIGCONT)
    assert one.process is not None
    assert one.process.wait(30) == 1
    assert "has taken the path" in one.output
    assert one.processes() == set()
    assert lives(two) == before, json.dumps(two.events()[-20:], indent=1)
    assert two.run("status").code == 0
    killed = two.kill("other")
    two.until_reborn("other", killed)
    two.end()


def test_a_number_in_a_file_is_no_worker(host: Hosting) -> None:
    """A planted snapshot has no other process signalled, though pid and start time are right."""
    one = host(CONFIG, PLUGINS)
    kill_launcher_and_supervisor(one)
    snapshot = one.home / "state" / "living.json"
    stored = json.loads(snapshot.read_text())
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as innocent:
        try:
            ticks = start_ticks(innocent.pid)
            for service in stored["services"]:
                service |= {"pid": innocent.pid, "ticks": ticks, "watchdog": 0.1}
            snapshot.write_text(json.dumps(stored))
            one.up()
            assert one.wait_for("other", "running")["pid"] != innocent.pid
            assert innocent.poll() is None
        finally:
            innocent.kill()


@pytest.mark.external
def test_a_command_in_another_pid_namespace(host: Hosting) -> None:
    """Pids mean other processes there: `call` gets its result, `chaos` is refused before it takes
    others for dead ones, and `down` stops the host."""
    one = host(CONFIG.replace("[host]", "[host]\nchaos = true", 1), PLUGINS)
    elsewhere = ("unshare", "--pid", "--fork", "--mount-proc")
    for _ in range(3):  # pids that are none here, or those of other processes
        assert one.run("call", "other", "pid", before=elsewhere).code == 0
    refused = one.run("chaos", "--kills", "1", before=elsewhere)
    assert (refused.code, "the host runs in another PID namespace" in refused.err) == (1, True)
    assert one.run("down", before=elsewhere).code == 0
    assert one.process is not None
    assert one.process.wait(1) == 0
