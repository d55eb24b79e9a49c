"""Calls are counted by the workers that make them, and added up; metrics and `top` show them."""

import asyncio
import fcntl
import os
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.following import Following
from tests.support.host import COMMAND, Host, found, hosting
from tests.support.waiting import until, until_true

from garrison.ipc import Client, RemoteError, ServiceLost, ServiceProxy
from garrison.ipc.call_rates import awaiting
from garrison.ipc.call_totals import Totals
from garrison.supervisor.cli.counters import read_totals

CONFIG = """
[plugins.echo]
[services.echo]
[services.other]
plugin = "echo"
[services.third]
plugin = "echo"
restart = "temporary"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run three of the same service."""
    with hosting(CONFIG, ["echo"]) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


def calls(totals: Totals, caller: str, service: str) -> dict[str, dict[str, int]]:
    """Return the outcomes of calls, by method."""
    return {
        row.method: {name: n for name, n in zip(totals.outcomes, row.outcomes, strict=True) if n}
        for row in totals.calls
        if (row.caller, row.service) == (caller, service)
    }


async def until_counted(host: Host, caller: str, service: str, expected: Any) -> None:
    """Wait until exactly these calls are counted."""

    def counted() -> bool:
        return bool(calls(read_totals(host.home), caller, service) == expected)

    await until_true(counted)


async def test_calls_of_services_are_counted_by_method_and_outcome(
    running: Host, client: Client
) -> None:
    """Those of a program are not. What has not ended is awaited, until the caller's death."""
    echo = found(client, "echo")
    for _ in range(3):
        assert await echo.ask("other", "add", [1]) == 3
    with pytest.raises(RemoteError):
        await echo.ask("other", "fail", ["no"])
    with pytest.raises(RemoteError, match="absent"):
        await echo.ask("other", "absent", [])
    with pytest.raises(RemoteError, match="CallTimeout"):
        await echo.ask("other", "hang", ["k"], 0.05)

    expected = {"add": {"ok": 3}, "fail": {"error": 1}, "hang": {"timeout": 1}}
    await until_counted(running, "echo", "other", expected)
    totals = read_totals(running.home)
    assert not any(row.service == "echo" for row in totals.calls)
    for row in totals.calls:
        assert sum(row.buckets) == row.number
    (hang,) = (row for row in totals.calls if row.method == "hang")
    slow = [bound for bound, number in zip(totals.bounds_s, hang.buckets, strict=False) if number]
    assert 0.05 < slow[0] < 20


async def test_what_is_awaited_ends_with_its_caller(running: Host, client: Client) -> None:
    """A death is counted by its kind, and what was counted before it stays."""
    third: ServiceProxy = found(client, "third")
    await third.ask("other", "add", [1])
    await until_counted(running, "third", "other", {"add": {"ok": 1}})
    held = third.nested("other", "held")
    await until_true(lambda: awaiting(read_totals(running.home)).get(("third", "other")) == 1)

    running.kill("third", signal.SIGKILL)
    await until_true(lambda: running.status("third")["state"] != "running")
    with pytest.raises(ServiceLost):
        await held

    totals = read_totals(running.home)
    assert ("third", "other") not in awaiting(totals)
    assert [(one.service, one.kind, one.number) for one in totals.deaths] == [
        ("third", "signal", 1)
    ]
    assert calls(totals, "third", "other") == {"add": {"ok": 1}}
    running.ask("start", "third")


async def test_totals_begin_anew_with_a_supervisor(running: Host, client: Client) -> None:
    """Workers run on: what they count from then on is added to nothing, and nothing twice."""
    before = read_totals(running.home)
    running.end(signal.SIGKILL)
    running.up()
    async with running.connect() as again:
        await found(again, "echo").ask("other", "add", [1])
        await until_counted(running, "echo", "other", {"add": {"ok": 1}})

    assert read_totals(running.home).boot != before.boot


# --- metrics ------------------------------------------------------------------------------


def scrape(where: str | tuple[str, int], path: str = "/metrics") -> tuple[str, str]:
    """Return the head and the body of a GET."""
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(30)
        client.connect(where)
        client.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        text = b"".join(iter(lambda: client.recv(65_536), b"")).decode()
    head, _, body = text.partition("\r\n\r\n")
    return head, body


def test_metrics_are_printed_written_and_served(running: Host, tmp_path: Path) -> None:
    """As the same text; a file is replaced as a whole, and others can read it."""
    file, where = tmp_path / "g.prom", str(running.home / "run" / "m.sock")
    printed = running.run("metrics")
    assert printed.code == 0
    assert 'garrison_service_up{service="echo"} 1\n' in printed.out
    assert 'caller="echo",service="other",method="add",outcome="ok"' in printed.out
    assert printed.out.endswith("# EOF\n")
    found = {
        (one["name"], str(one["labels"]))
        for one in running.run("metrics", json=True).data["samples"]
    }
    assert ("garrison_service_up", "{'service': 'echo'}") in found

    file.write_text("old")
    assert running.run("metrics", "-o", str(file)).out == f"wrote {file}\n"
    assert file.read_text().endswith("# EOF\n")
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [file]
    assert running.run("metrics", "-o", "/dev/stdout").out.endswith("# EOF\nwrote /dev/stdout\n")

    with Following(running, "metrics", "--serve", where) as serving:
        serving.until("metrics at")
        with socket.socket(socket.AF_UNIX) as silent:  # a client that says nothing
            silent.connect(where)
        head, body = scrape(where)
        assert head.startswith("HTTP/1.0 200")
        assert "application/openmetrics-text; version=1.0.0; charset=utf-8" in head
        assert 'garrison_service_up{service="echo"} 1\n' in body
        assert scrape(where, "/other")[0].startswith("HTTP/1.0 404")
        second = running.run("metrics", "--serve", where)
        assert (second.code, "another process serves at" in second.err) == (1, True)
        assert serving.interrupt() == 0
    assert not Path(where).exists()

    with Following(running, "metrics", "--serve", "127.0.0.1:0") as serving:
        port = re.search(r"127\.0\.0\.1:(\d+)/", serving.until("metrics at"))
        assert port is not None
        assert "garrison_supervisor_up 1\n" in scrape(("127.0.0.1", int(port[1])))[1]
        serving.process.terminate()
        assert serving.process.wait(30) == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("--serve", "0.0.0.0:9464"), 1, "only addresses of this machine"),
        (("--serve", "/absent/m.sock"), 1, "No such file"),
        (("--serve", "{file}"), 1, "is no socket"),
        (("--serve", "/" + "x" * 120), 1, "107 bytes"),
        (("-o", "/absent/m.prom"), 1, "cannot be written"),
        (("-o", "a", "--serve", "b"), 2, "not both"),
    ],
)
def test_what_metrics_refuses(
    running: Host, tmp_path: Path, words: tuple[str, ...], code: int, text: str
) -> None:
    """With a sentence that says why."""
    file = tmp_path / "plain"
    file.touch()
    refused = running.run("metrics", *(word.replace("{file}", str(file)) for word in words))

    assert refused.code == code
    assert text in refused.err


def test_metrics_without_a_supervisor_say_so(tmp_path: Path) -> None:
    """A file is written all the same: an old one would look like a host that is well."""
    with hosting(up=False) as host:
        file = tmp_path / "g.prom"
        absent = host.run("metrics", "-o", str(file))

        assert absent.code == 7
        assert "no supervisor" in absent.err
        assert "garrison_supervisor_up 0\n" in file.read_text()
        assert "garrison_service_up" not in file.read_text()


# --- top ----------------------------------------------------------------------------------


class Terminal:
    """`garrison top` on a terminal of 80 columns."""

    def __init__(self, host: Host, *words: str) -> None:
        self.leader, self.follower = pty.openpty()
        fcntl.ioctl(self.follower, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 80, 0, 0))
        self.modes = termios.tcgetattr(self.follower)
        self.process = subprocess.Popen(
            [*COMMAND, "--home", str(host.home), "top", *words],
            env={**host.environ, "TERM": "xterm"},
            stdin=self.follower,
            stdout=self.follower,
            stderr=self.follower,
            start_new_session=True,
        )
        self.text = ""

    def until(self, text: str) -> str:
        """Wait until a text was shown since the last time; return what was shown before it."""

        def shown() -> bool:
            while select.select([self.leader], [], [], 0)[0]:
                self.text += os.read(self.leader, 65_536).decode("utf-8", "replace")
            return text in self.text

        until(shown, what=text)
        before, _, self.text = self.text.partition(text)
        return before

    def type(self, keys: str) -> None:
        """Type keys."""
        os.write(self.leader, keys.encode())

    def close(self) -> int:
        """Wait for its end; return its exit code. The terminal must be as it was."""
        self.until("\x1b[?1049l")
        code = self.process.wait(30)
        assert termios.tcgetattr(self.follower) == self.modes
        os.close(self.leader)
        os.close(self.follower)
        return code


async def test_top_shows_rates_and_acts_on_what_is_chosen(running: Host) -> None:
    """A restart needs a confirmation. The terminal is as it was after `q` and after SIGTERM."""
    old = running.status("third")["pid"]
    terminal = Terminal(running, "--sort", "name")
    terminal.until("3 of 3 running")
    terminal.type("jjR")
    terminal.until("restart third? y/N")
    terminal.type("n")
    terminal.until("choose")
    terminal.type("R")
    assert "restart third …" not in terminal.until("restart third? y/N")
    assert running.status("third")["pid"] == old
    terminal.type("y")
    await until_true(lambda: running.status("third")["pid"] not in {old, None})
    terminal.until("restart third: done")
    with (running.home / "logs" / "third.log").open("a") as file:
        file.write("a line of its log\n")
    terminal.type("L")
    terminal.until("a line of its log")
    os.killpg(terminal.process.pid, signal.SIGINT)  # as Ctrl-C does
    terminal.until("NAME")
    terminal.type("q")
    assert terminal.close() == 0

    terminal = Terminal(running)
    terminal.until("NAME")
    terminal.process.terminate()
    assert terminal.close() == 143


async def test_top_without_a_terminal_is_one_table(running: Host, client: Client) -> None:
    """Its rates are over the second between two readings."""
    echo = found(client, "echo")

    async def call() -> None:
        while True:
            await echo.ask("other", "add", [1])

    calling = client.loop.create_task(call())
    try:
        ran = await asyncio.to_thread(running.run, "top", json=True)
    finally:
        calling.cancel()
    rows = {row["name"]: row for row in ran.data["services"]}
    assert rows["echo"]["rates"]["out_s"] > 1
    assert rows["other"]["rates"]["in_s"] > 1
    assert rows["other"]["rates"]["p50_s"] > 0
    table = running.run("top", env={"COLUMNS": "80"}).out.splitlines()
    assert table[1].split()[:3] == ["NAME", "STATE", "IN/S"]
    assert [line.split()[0] for line in table[2:]] == ["echo", "other", "third"]
    assert max(map(len, table)) <= 80
