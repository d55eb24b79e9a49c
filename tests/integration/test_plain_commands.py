"""Plain commands as services: when they run, how they end, and that nothing is left of them."""

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, hosting
from tests.support.ports import free_port
from tests.support.proc import alive
from tests.support.waiting import until

from garrison.ipc import OrderFailed

SECRET = "s3cret-of-the-command"
PORT_FILE = "port.txt"

# A child in a session of its own, whose pid it leaves in a file; then it waits.
NOTES = """
import os, signal, subprocess, sys, time
child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
open("notes.pids", "w").write(f"{os.getpid()} {child.pid}")
signal.signal(signal.SIGINT, lambda *_: (print("got SIGINT", flush=True), sys.exit(0)))
print("token", os.environ["TOKEN"], "argv", sys.argv[1:], flush=True)
print("now listening on it", flush=True)
while True:
    time.sleep(1000)
"""
NOTIFIER = """
import os, socket, time
def send(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.sendto(text.encode(), "\\0" + os.environ["NOTIFY_SOCKET"][1:])
open("notify.address", "w").write(os.environ["NOTIFY_SOCKET"])
time.sleep(0.2)
send("STATUS=waiting for it")
while not os.path.exists("go"):
    time.sleep(0.02)
send("READY=1\\nWATCHDOG=1")
while not os.path.exists("hang"):
    send("WATCHDOG=1")
    time.sleep(0.1)
time.sleep(1000)
"""
LISTENER = """
import socket, time
time.sleep(0.2)
one = socket.create_server(("127.0.0.1", int(open("port.txt").read())))
while True:
    one.accept()
"""


def config(port: int) -> str:
    """Return the config of the host of these tests."""
    return f"""{LONG_GRACE}
[defaults]
grace = 20.0
[services.notes]
command = ["python3", "notes.py", "a", "a"]
ready = "line: listening on"
stop_signal = "SIGINT"
env_file = "notes.env"
[services.notifier]
command = ["python3", "notifier.py"]
ready = "notify"
watchdog = 3.0
autostart = false
[services.listener]
command = ["python3", "listener.py"]
ready = "port: {port}"
[services.checked]
command = ["sh", "-c", "while echo tick; do sleep 0.3; done"]
health_command = ["sh", "-c", "test ! -e unwell || {{ echo it is full; exit 3; }}"]
health_interval = 0.2
[services.once]
command = ["sh", "-c", "echo done"]
restart = "transient"
autostart = false
[services.failing]
command = ["sh", "-c", "sleep 0.7; echo the reason >&2; exit 3"]
restart = "temporary"
autostart = false
[services.unready]
command = ["sh", "-c", "echo no token >&2; exit 4"]
restart = "temporary"
autostart = false
[services.absent]
command = ["no-such-program"]
restart = "temporary"
autostart = false
[services.late]
command = ["sh", "-c", "echo begins; exec sleep 1000"]
ready = "line: never"
start_timeout = 2.0
restart = "temporary"
autostart = false
[services.daemon]
command = ["sh", "-c", "setsid sleep 1000 & echo $! > daemon.pid"]
autostart = false
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a host with plain commands; those that end by themselves are started by their test."""
    port = free_port()
    files = {"notes.py": NOTES, "notifier.py": NOTIFIER, "listener.py": LISTENER}
    files |= {"notes.env": f"TOKEN={SECRET}\n", PORT_FILE: str(port)}
    with hosting(config(port), files=files) as host:
        yield host


def pids(host: Host) -> list[int]:
    """Return the pids of the command `notes` and of its child."""
    path = host.folder / "notes.pids"
    return until(lambda: [int(one) for one in path.read_text().split()] if path.exists() else [])


def command_of(host: Host, name: str) -> int:
    """Return the pid of a service's command, once the worker has reported it."""
    return int(until(lambda: host.status(name)["facts"].get("command_pid")))


def test_it_runs_once_it_is_ready(running: Host) -> None:
    """A line of its output, or a port, makes it ready; arguments are kept, also equal ones."""
    assert running.status("notes")["state"] == "running"
    assert "argv ['a', 'a']" in running.log("notes")
    with socket.create_connection(("127.0.0.1", int((running.folder / PORT_FILE).read_text()))):
        assert running.status("listener")["state"] == "running"


def test_its_secrets_are_in_its_environment_alone(running: Host) -> None:
    """Its output has their names; neither the worker's environment file nor its arguments do."""
    assert "token [TOKEN]" in running.log("notes")
    assert SECRET not in running.log("notes")
    command = pids(running)[0]
    assert SECRET.encode() in Path(f"/proc/{command}/environ").read_bytes()
    assert SECRET.encode() not in Path(f"/proc/{command}/cmdline").read_bytes()
    other = command_of(running, "checked")
    assert SECRET.encode() not in Path(f"/proc/{other}/environ").read_bytes()


def test_its_log_goes_on_where_it_was_removed(running: Host) -> None:
    """The next output is in a new file."""
    (running.home / "logs" / "checked.log").unlink()
    until(lambda: "tick" in running.log("checked"))


def test_it_has_no_methods(running: Host) -> None:
    """A call fails with an error that names the service and the method."""
    with pytest.raises(AttributeError, match=r"checked\.ping: no such method"):
        asyncio.run(running.call("checked", "ping"))


def test_status_shows_what_it_uses(running: Host) -> None:
    """Without the worker, which is larger than a shell; and its command, not a type.

    A health command is a copy of the worker for a moment, until it has begun.
    """
    until(lambda: 0 < running.status("checked")["rss_bytes"] < 8 << 20)
    assert running.status("checked")["command"][0] == "sh"
    assert (
        "command  sh -c 'while echo tick; do sleep 0.3; done'"
        in running.run("status", "checked").out
    )


def test_it_cannot_be_paused(running: Host) -> None:
    """By name that is an error that says what to do; `--all` leaves it running."""
    refused = running.run("pause", "checked")
    assert (refused.code, "checked is a plain command" in refused.err) == (1, True)
    assert "garrison stop checked" in refused.err
    assert running.run("pause", "--all").code == 0
    assert not running.status("checked")["paused"]


def test_check_finds_a_program_that_is_not_there(running: Host) -> None:
    """With file, line and key."""
    ran = running.run("check", "-c", str(running.config), json=True)
    (warning,) = ran.data["would_not_start"]
    assert "config.toml:" in warning
    assert "services.absent.command: absent would not start: there is no program" in warning


def test_a_health_command_that_fails_restarts_it(running: Host) -> None:
    """The reason has the last line of the health command."""
    old = running.status("checked")["pid"]
    (running.folder / "unwell").touch()
    until(lambda: running.status("checked")["pid"] not in {old, None})
    (running.folder / "unwell").unlink()
    row = running.wait_for("checked", "running")
    assert "health_command exited with code 3: it is full" in str(
        running.events("service.state", "checked")
    ), row


def test_a_command_reports_by_sd_notify(running: Host) -> None:
    """READY=1 makes it run; once it has sent WATCHDOG=1, its silence ends it. Others' messages do
    not count."""
    with contextlib.suppress(OrderFailed):
        running.ask("start", "notifier", wait=0.1)
    address = running.folder / "notify.address"
    until(address.exists)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"READY=1", f"\0{address.read_text()[1:]}")
    until(lambda: "notify.status text='waiting for it'" in running.log("notifier"))
    assert "notify.refused" in running.log("notifier")
    assert running.status("notifier")["state"] == "starting"
    (running.folder / "go").touch()
    old = running.wait_for("notifier", "running")["pid"]
    (running.folder / "hang").touch()
    until(lambda: running.status("notifier")["pid"] != old)
    assert "hangs: no WATCHDOG=1 for 3 s" in str(running.events("service.state", "notifier"))
    running.ask("stop", "notifier")


def ends_as(host: Host, name: str, state: str) -> dict[str, object]:
    """Start a service that ends by itself; return its row in that state."""
    with contextlib.suppress(OrderFailed):
        host.ask("start", name, wait=0.1)
    row: dict[str, object] = until(
        lambda: (row := host.status(name))["state"] == state and row["last_exit"] and row
    )
    return row


def death_of(host: Host, name: str) -> dict[str, Any]:
    """Return the crash report of a service, once it is written."""
    deaths = until(lambda: host.run("deaths", name, json=True).data["deaths"])
    report: dict[str, Any] = host.run("death", deaths[-1]["id"], json=True).data
    return report


def test_its_worker_ends_as_it_ended(running: Host) -> None:
    """With its exit code, or by its signal; the reason has the last line of its output."""
    row = ends_as(running, "failing", "stopped")
    assert row["last_exit"] == "exited with code 3"
    assert row["reason"] == "its command exited with code 3: the reason"
    death = death_of(running, "failing")
    assert (death["kind"], death["exit_code"], death["exception"]) == ("exit", 3, None)
    assert death["log"][0] == "the reason"

    old = running.status("listener")["pid"]
    os.kill(command_of(running, "listener"), signal.SIGKILL)
    row = running.until_reborn("listener", old)
    assert row["last_exit"] == "was killed by SIGKILL"
    death = death_of(running, "listener")
    assert (death["kind"], death["signal"]) == ("signal", 9)
    assert death["cause"] == "its command was killed by SIGKILL"


def test_an_exit_code_of_zero_is_a_clean_end(running: Host) -> None:
    """With restart = "transient" it stays stopped, and there is no crash report."""
    row = ends_as(running, "once", "stopped")
    assert row["reason"] == "its command exited with code 0"
    assert running.run("deaths", "once", json=True).data["deaths"] == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("unready", "its command exited with code 4: no token"),
        ("absent", "`no-such-program` cannot be run in"),
        ("late", "it has written no line with 'never': begins"),
    ],
)
def test_a_start_that_fails_says_why(running: Host, name: str, reason: str) -> None:
    """It ended, does not exist, or was not ready in time."""
    row = ends_as(running, name, "failed")
    assert reason in str(row["reason"])
    assert row["traceback"] == []
    assert "services/command" not in running.run("why", name).out
    assert "Traceback" not in running.log(name)


def test_a_command_that_goes_into_the_background_is_refused(running: Host) -> None:
    """By name, with what to do; what it has started is ended."""
    row = ends_as(running, "daemon", "failed")
    assert str(row["reason"]).startswith("the command went into the background")
    left = int((running.folder / "daemon.pid").read_text())
    until(lambda: not alive(left), what="the daemon has ended")


def test_nothing_is_left_of_it(running: Host) -> None:
    """Whether it is stopped, or its worker killed: also not a child in a session of its own."""
    before = pids(running)
    running.ask("stop", "notes")
    until(lambda: not any(map(alive, before)))
    assert "got SIGINT" in running.log("notes")
    assert running.status("notes")["last_exit"] == "exited with code 0"
    (running.folder / "notes.pids").unlink()
    running.ask("start", "notes")
    before = pids(running)
    old = running.kill("notes")
    running.until_reborn("notes", old)
    until(lambda: not any(map(alive, before)))


def test_it_goes_on_without_its_supervisor(running: Host) -> None:
    """The next supervisor adopts it; the command has not noticed."""
    running.wait_for("listener", "running")
    command, worker = command_of(running, "listener"), running.status("listener")["pid"]
    running.end(signal.SIGKILL)
    running.up()
    assert running.wait_for("listener", "running")["pid"] == worker
    assert command_of(running, "listener") == command
    assert alive(command)


def test_a_paused_command_is_not_started(running: Host) -> None:
    """As after a restore, which pauses all: it could not run and take nothing. `resume` starts
    it."""
    assert running.end() == 0
    path = running.home / "state" / "orders.json"
    orders = json.loads(path.read_text())
    path.write_text(json.dumps({**orders, "paused": [*orders["paused"], "checked"]}))
    running.up()
    row = running.status("checked")
    assert (row["state"], row["pid"]) == ("registered", None)
    assert row["reason"] == "paused; to start it: garrison resume checked"
    assert running.run("resume", "checked").code == 0
    assert running.wait_for("checked", "running")["paused"] is False
