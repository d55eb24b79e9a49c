"""What a supervisor reports to systemd, on a socket of the test's own."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Hosting
from tests.support.waiting import until

CONFIG = """
[plugins.echo]
[services.echo]
"""
SLOW = """
[host]
stop_timeout = 0.5
[plugins.hang]
[services.hang]
env = { DEAF = "1" }
grace = 60.0
"""


class Reports:
    """The reports that arrive, read in a thread: a socket holds ten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while report := self._socket.recv(4096):
            self.lines += report.decode().split("\n")

    def until(self, line: str) -> None:
        """Wait until a line has arrived that begins so."""
        until(lambda: any(one.startswith(line) for one in self.lines))

    def close(self) -> None:
        """End the thread, and close the socket."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self.path))
        self._thread.join()
        self._socket.close()


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[Reports]:
    """Listen as systemd does."""
    found = Reports(tmp_path / "notify")
    yield found
    found.close()


def test_systemd_hears_of_a_whole_life(host: Hosting, reports: Reports) -> None:
    """Ready once services run, alive, on its way to another version and ready again, stopping.

    No worker learns of the socket."""
    env = {"NOTIFY_SOCKET": str(reports.path), "WATCHDOG_USEC": "600000"}
    one = host(CONFIG, ["echo"], env=env)
    reports.until("READY=1")
    reports.until("STATUS=1 of 1 services run")
    reports.until("WATCHDOG=1")
    assert any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in reports.lines)
    assert one.run("call", "echo", "setting", "NOTIFY_SOCKET").out == "null\n"
    one.run("stop", "echo")
    reports.until("STATUS=0 of 0 services run")

    reports.lines.clear()
    assert one.run("upgrade").code == 0
    reports.until("RELOADING=1")
    reports.until("MONOTONIC_USEC=")
    reports.until("READY=1")

    reports.lines.clear()
    assert one.run("down").code == 0
    reports.until("STOPPING=1")


def test_a_socket_that_is_not_there_harms_nothing(host: Hosting, tmp_path: Path) -> None:
    """Neither does an address of a kind that is not known, nor a watchdog that is no number."""
    for address in (str(tmp_path / "none"), "vsock:2:1"):
        env = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "soon"}
        one = host(CONFIG, ["echo"], env=env)
        assert one.status("echo")["state"] == "running"


def test_a_stop_of_the_host_is_bounded(host: Hosting) -> None:
    """After `stop_timeout` what still stops is killed, and an event names it."""
    one = host(SLOW, ["hang"])
    until(lambda: one.status("hang")["state"] == "running")
    pid = one.status("hang")["pid"]
    assert one.run("down").code == 0

    assert not Path(f"/proc/{pid}").exists()
    late = [e for e in one.events() if e["event"] == "supervisor.stop_late"]
    assert [event["data"]["services"] for event in late] == ["hang"]


def test_check_states_how_long_a_stop_takes(host: Hosting) -> None:
    """Where services stop one after the other."""
    text = CONFIG + 'grace = 4.0\n[services.other]\nplugin = "echo"\ndepends_on = ["echo"]\n'
    one = host(text + "grace = 3.0\n", ["echo"], up=False)

    assert "a stop takes 7 s at most: other → echo" in one.run("check", home=False).out
    assert one.run("check", home=False, json=True).data["longest_stop"] == 7.0
