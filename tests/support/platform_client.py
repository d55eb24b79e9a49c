"""A test's side of the fake platform: its process, what is said there, and its record."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.answer_counts import Counts, Said, count
from tests.support.commands import ROOT, inherited
from tests.support.waiting import PATIENCE, until


class FakePlatform:
    """The running platform.

    Args:
        path: Its socket.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.messages: list[Said] = []  # its record, as far as it was read
        self.counted: dict[str, int] = {}  # its other counts, as last read
        self._number = 0
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")

    def close(self) -> None:
        """Disconnect."""
        self._lines.close()
        self._socket.close()

    def ask(self, do: str, **what: Any) -> Any:
        """Make one request and return its value."""
        self._number += 1
        self._socket.sendall(json.dumps({"n": self._number, "do": do, **what}).encode() + b"\n")
        answer = json.loads(self._lines.readline())
        assert "error" not in answer, answer
        return answer["value"]

    def say(self, channel: str, text: str, **more: Any) -> str:
        """Say something as a person; return the message's id."""
        said: str = self.ask("say", channel=channel, text=text, **more)["id"]
        return said

    def set(self, **settings: Any) -> None:
        """Change what the platform can do: `dedupe`, `lookup`, `latency`, `longest`."""
        self.ask("set", **settings)

    def fault(self, of: str, kind: str, times: int = 1, seconds: float = 0.0) -> None:
        """Have a fault happen to the next requests of a kind."""
        self.ask("fault", of=of, kind=kind, times=times, seconds=seconds)

    def read(self) -> list[Said]:
        """Return the whole record, in order of arrival."""
        record = self.ask("record", after=len(self.messages))
        for one in record.pop("messages"):
            names = ("id", "channel", "position", "text", "at", "bot", "nonce", "reply_to")
            self.messages.append(Said(**{name: one[name] for name in names}))
        self.counted = record
        return self.messages

    def answers(self, channel: str = "") -> list[str]:
        """Return the texts of the bots' messages, in order."""
        return [one.text for one in self.read() if one.bot and channel in {"", one.channel}]

    def counts(self) -> Counts:
        """Count the questions of the record and their answers."""
        return count(self.read())

    def until_answered(self, timeout: float = PATIENCE) -> Counts:
        """Wait until each question has its whole answer; return the counts."""
        until(lambda: not self.counts().unanswered, timeout, "every question is answered")
        return self.counts()

    def until_bots(self, count: int) -> None:
        """Wait until so many bots are logged in."""

        def there() -> bool:
            self.read()
            return self.counted["bots"] == count

        until(there, what=f"{count} bots are logged in")


@contextlib.contextmanager
def fake_platform(seed: int = 0) -> Iterator[FakePlatform]:
    """Run a platform in a process of its own."""
    folder = Path(tempfile.mkdtemp(prefix="p", dir="/tmp"))  # a socket's path is short
    path = folder / "platform.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fake_platform", str(path), str(seed)],
        cwd=ROOT,
        env=inherited(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"listening\n"
        with contextlib.closing(FakePlatform(str(path))) as platform:
            yield platform
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
    assert process.returncode == 0
