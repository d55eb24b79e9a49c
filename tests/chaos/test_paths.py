"""A running host whose paths others remove, move or take: it restores what is its own, or yields."""

import os
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.chaos.test_adoption import CONFIG, PLUGINS, lives
from tests.support.host import Host, Hosting
from tests.support.proc import alive
from tests.support.waiting import until


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
    "spoil", [remove_sockets, replace_sockets, remove_run, remove_home, move_home]
)
def test_what_is_removed_is_restored(host: Hosting, spoil: Callable[[Host], None]) -> None:
    """The command line reaches the supervisor, a killed worker returns, and the next supervisor
    adopts the workers, which run on."""
    one = host(CONFIG, PLUGINS)
    before = lives(one)
    spoil(one)
    assert one.run("status").code == 0  # it waits for the socket, as the lock is held or restored
    until(lambda: len(sockets_of(one)) == 3)
    assert "control.sock" in str(one.events("host.sockets_restored"))
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
