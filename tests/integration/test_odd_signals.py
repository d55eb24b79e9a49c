"""Signals to the host's own processes, and children that are none of its own."""

import os
import signal
import sys
from functools import partial

from tests.support.host import Host, Hosting
from tests.support.proc import children, ignores, stat
from tests.support.waiting import until

from garrison.supervisor import signals

CONFIG = """
[plugins.echo]
[services.echo]
"""


def recorded(host: Host, number: int) -> list[dict[str, str]]:
    """Return the data of the events of a signal."""
    name = signals.name_of(number)
    events = host.events("supervisor.signal")
    return [one["data"] for one in events if one["data"]["signal"] == name]


def hears_hup() -> bool:
    """Return whether a host of these tests refuses SIGHUP: at a terminal it ends by it, and under
    `nohup` it ignores it."""
    return not signals.at_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def test_signals_are_recorded_and_end_nothing(host: Hosting) -> None:
    """Neither the supervisor nor the launcher ends by a signal that can be caught, apart from
    SIGTERM and SIGINT to the supervisor; SIGHUP applies where no terminal has closed."""
    running = host(CONFIG, ["echo"])
    launcher, worker = running.launcher, running.status("echo")["pid"]
    stopping = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    harmless = [number for number in signals.handled() if number not in stopping]
    if not hears_hup():
        harmless.remove(signal.SIGHUP)
    for number in harmless:
        os.kill(running.pid, number)
        os.kill(launcher, number)
    for number in harmless:
        until(partial(recorded, running, number), what=signals.name_of(number))
    assert "opens" in recorded(running, signal.SIGUSR1)[0]["action"]
    assert "ignored" in recorded(running, signal.SIGUSR2)[0]["action"]
    if hears_hup():
        assert "applies" in recorded(running, signal.SIGHUP)[0]["action"]
    assert running.launcher == launcher
    assert running.status("echo")["pid"] == worker
    log = running.log("launcher")
    assert "SIGUSR2 ignored" in log
    assert not ignores(worker, signal.SIGUSR2)  # a worker's signals are its service's own


PARENT = """
import os, sys, time
if os.fork() == 0:  # a child from before the start, for which no code waits
    socket = sys.argv[-1] + "/run/control.sock"
    while not os.path.exists(socket):
        time.sleep(0.01)
    for _ in range(20):
        if os.fork() == 0:  # falls to the supervisor
            time.sleep(0.2)
            os._exit(7)
    os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def test_strangers_are_reaped(host: Hosting) -> None:
    """Orphans that fall to the supervisor, as to the PID 1 of a container, and children from before
    its start leave no zombie; its own children keep their status."""
    running = host(CONFIG, ["echo"], up=False)
    running.prefix = (sys.executable, "-c", PARENT)
    running.up()
    running.prefix = ()

    def others() -> list[int]:
        return [pid for pid in children(running.pid) if pid != running.launcher]

    until(lambda: not others(), what=f"no zombie: {[stat(pid)[:1] for pid in others()]}")
    launcher = running.launcher
    os.kill(launcher, signal.SIGKILL)
    running.until_reborn("echo", 0)
    until(lambda: running.events("launcher.lost"))
    pid = running.kill("echo")  # now a child of the supervisor
    running.until_reborn("echo", pid)
    until(lambda: running.ask("deaths"))
    assert "SIGKILL" in running.run("deaths").out
    until(lambda: not [one for one in others() if stat(one)[:1] == ["Z"]])
