"""`garrison run` gives a service a terminal, without watchdog and deadlines; others have none."""

import asyncio
import contextlib
import os
import pty
import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.host import Host, Hosting, found
from tests.support.waiting import PATIENCE, until

from garrison.ipc import OrderFailed, RemoteError

BOT = """
import os, pdb, sys, time
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    async def stop_here(self, value: int) -> int:
        breakpoint()
        return value + 1
    async def trace(self) -> None:
        pdb.set_trace()
    async def ask(self) -> str:
        return input("name? ")
    async def leave(self) -> None:
        os._exit(3)

plugin = Plugin(name="bot", services=[Bot])
"""
CONFIG = """
[plugins.bot]
[services.bot]
watchdog = 0.5
start_timeout = 5
grace = 1
"""


class Terminal:
    """A pseudo terminal on which `garrison run` runs a service."""

    def __init__(self, host: Host, name: str) -> None:
        self._leader, follower = pty.openpty()
        self.text = ""
        self.process = subprocess.Popen(
            [*host._command, "--home", str(host.home), "run", name],
            cwd=host.folder,
            env=host.environ,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        os.set_blocking(self._leader, False)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._leader, f"{text}\n".encode())

    def shows(self, text: str) -> bool:
        """Return True once a text has been shown."""
        with contextlib.suppress(OSError):
            self.text += os.read(self._leader, 65536).decode("utf-8", "replace")
        return text in self.text

    def close(self) -> int:
        """Wait for the end of the command; return its exit code."""
        code = self.process.wait(PATIENCE)
        self.shows("")
        os.close(self._leader)
        return code


async def test_a_service_on_a_terminal_can_be_debugged(host: Hosting) -> None:
    """It may rest at a breakpoint for longer than its watchdog; then it runs as before."""
    one = host(CONFIG, files={"bot.py": BOT})
    before = one.status("bot")["pid"]
    async with one.connect() as client:
        bot = found(client, "bot")
        for method, what in (("stop_here", "breakpoint()"), ("trace", "standard input")):
            arguments = (41,) if method == "stop_here" else ()
            with pytest.raises(RemoteError, match="garrison run bot gives it yours") as caught:
                await getattr(bot, method)(*arguments)
            assert what in str(caught.value)
        with pytest.raises(RemoteError, match="garrison run bot"):
            await bot.ask()

        terminal = Terminal(one, "bot")
        row = await asyncio.to_thread(one.until_reborn, "bot", before)
        calling = bot.stop_here(41)
        await asyncio.to_thread(until, lambda: terminal.shows("(Pdb) "), what="pdb asks")
        await asyncio.sleep(1.2)  # longer than its watchdog
        assert one.status("bot")["pid"] == row["pid"]
        terminal.type("p value * 1000")
        await asyncio.to_thread(until, lambda: terminal.shows("41000"), what="pdb answers")
        terminal.type("c")
        assert await asyncio.wait_for(calling, PATIENCE) == 42

        terminal.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(terminal.close) == 0
        assert "bot runs as before" in terminal.text
        after = one.status("bot")
        assert after["state"] == "running"
        assert after["pid"] != row["pid"]
        with pytest.raises(RemoteError, match="garrison run bot"):
            await bot.stop_here(1)

        terminal = Terminal(one, "bot")
        row = await asyncio.to_thread(one.until_reborn, "bot", after["pid"])
        leaving = bot.leave()
        assert await asyncio.to_thread(terminal.close) == 1
        assert "exited with code 3; bot runs as before" in " ".join(terminal.text.split())
        await asyncio.gather(leaving, return_exceptions=True)
        row = await asyncio.to_thread(one.until_reborn, "bot", row["pid"])

        terminal = Terminal(one, "bot")
        row = await asyncio.to_thread(one.until_reborn, "bot", row["pid"])
        terminal.process.kill()
        await asyncio.to_thread(terminal.close)
        await asyncio.to_thread(one.until_reborn, "bot", row["pid"])


def test_what_cannot_be_run_on_a_terminal_is_refused(host: Hosting) -> None:
    """An unknown service, several, or a process that the supervisor does not see."""
    one = host("[plugins.echo]\n[services.other]\nplugin = 'echo'\ntype = 'echo'\n", ["echo"])
    assert one.run("run", "absent").code == 4
    assert "takes the NAME of one service" in one.run("run", "*").err
    assert one.run("up", "--watch", "--detach", home=False).code == 2
    with pytest.raises(OrderFailed, match="sees no process"):
        one.ask("run", "echo", pid=2**22 + 1)
    with pytest.raises(OrderFailed, match="name one service"):
        one.ask("run", "*", pid=os.getpid())
    assert one.rows()["echo"]["state"] == "running"


def test_up_watch_restarts_what_was_saved(host: Hosting) -> None:
    """The services of that file alone; a mistake leaves the running one, and is told."""
    files = {"bot.py": BOT, "lib.py": "X = 1\n"}
    one = host(CONFIG + "[plugins.echo]\n", ["echo"], files, up=False)
    one.up("--watch")
    echo, bot = (one.rows()[name]["pid"] for name in ("echo", "bot"))

    one.write("bot.py", BOT.replace("value + 1", "value + 2"))
    row = one.until_reborn("bot", bot)
    assert one.rows()["echo"]["pid"] == echo
    assert "saved bot.py: restarting bot" in one.output

    one.write("bot.py", BOT + "\nsyntax error here\n")
    until(lambda: "bot was not restarted" in one.output, what="the mistake is told")
    assert one.rows()["bot"]["pid"] == row["pid"]
    one.write("bot.py", BOT)
    row = one.until_reborn("bot", row["pid"])

    one.write("config.toml", one.config.read_text().replace("grace = 1", "grace = 2"))
    row = one.until_reborn("bot", row["pid"])
    assert one.rows()["echo"]["pid"] == echo
    one.write("lib.py", "X = 2\n")  # any of the plugins beside the config may import it
    one.until_reborn("echo", echo)
    one.until_reborn("bot", row["pid"])
    assert Path(one.home).is_dir()
