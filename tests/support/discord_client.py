"""A test's side of the Discord bridge: its process, what is said there, and its record."""

import contextlib
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.answer_counts import Counts, Said, count
from tests.support.commands import ROOT, inherited
from tests.support.waiting import PATIENCE, until

# Appended to a bot's file: the library then speaks with the bridge.
POINTED = """
import discord.gateway as _gateway
import discord.http as _http
import yarl as _yarl

_http.Route.BASE = "{url}/api/v10"
_gateway.DiscordWebSocket.DEFAULT_GATEWAY = _yarl.URL("ws{url}/gateway/".replace("wshttp", "ws"))
"""


class DiscordBridge:
    """The running bridge."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.messages: list[Said] = []  # its record, as far as it was read
        self.counted: dict[str, int] = {}
        self.channels: dict[str, str] = self._ask("channels")  # name → id

    @property
    def pointed(self) -> str:
        """Return code that has the library speak with this bridge."""
        return POINTED.replace("{url}", self.url)

    def say(self, channel: str, text: str) -> str:
        """Say something as a person; return the message's id."""
        said: str = self._ask("say", channel=channel, text=text)["id"]
        return said

    def edit(self, channel: str, message: str, text: str) -> None:
        """Edit a message of the person."""
        self._ask("edit", channel=channel, id=message, text=text)

    def delete(self, channel: str, message: str) -> None:
        """Delete a message."""
        self._ask("delete", channel=channel, id=message)

    def react(self, channel: str, message: str, emoji: str) -> None:
        """React to a message as the person."""
        self._ask("react", channel=channel, id=message, emoji=emoji)

    def leave_starts(self, number: int) -> None:
        """Set how many session starts the bot has left today."""
        self._ask("starts", left=number)

    def drop(self, times: int = 1) -> None:
        """End the connection after the arrival of the next messages of the bot."""
        self._ask("drop", times=times)

    def read(self) -> list[Said]:
        """Return the whole record, in order of arrival."""
        record = self._ask("record", after=len(self.messages))
        self.messages += [Said(**one) for one in record.pop("messages")]
        self.counted = record
        return self.messages

    def answers(self) -> list[str]:
        """Return the texts of the bot's messages, in order."""
        return [one.text for one in self.read() if one.bot]

    def counts(self) -> Counts:
        """Count the questions of the record and their answers."""
        return count(self.read())

    def until_answered(self, timeout: float = PATIENCE) -> Counts:
        """Wait until each question has its whole answer; return the counts."""
        until(lambda: not self.counts().unanswered, timeout, "every question is answered")
        return self.counts()

    def until_bots(self, count: int) -> None:
        """Wait until so many bots are connected."""

        def there() -> bool:
            self.read()
            return self.counted["bots"] == count

        until(there, what=f"{count} bots are connected")

    def _ask(self, what: str, **data: Any) -> Any:
        body = json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/_test/{what}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def discord_bridge(*channels: str) -> Iterator[DiscordBridge]:
    """Run a bridge in a process of its own, with a server that has these channels."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.discord_bridge", *channels],
        cwd=ROOT,
        env=inherited(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the bridge did not start"
        yield DiscordBridge(int(line))
    finally:
        process.stdin.close()
        process.wait(PATIENCE)
        process.stdout.close()
    assert process.returncode == 0
