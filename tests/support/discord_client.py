"""A test's side of the Discord bridge: its process, what is said there, and its record."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.answer_counts import PIECE, Counts, Said, count
from tests.support.server_process import serving
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
        self.counted: dict[str, Any] = {}
        self._edited = 0  # edits that were read
        self.channels: dict[str, str] = self._ask("channels")  # name → id

    @property
    def pointed(self) -> str:
        """Return code that has the library speak with this bridge."""
        return POINTED.replace("{url}", self.url)

    def say(self, channel: str, text: str, **more: str) -> str:
        """Say something as a person, also with a `file`; return the message's id."""
        said: str = self._ask("say", channel=channel, text=text, **more)["id"]
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

    def reactions(self, channel: str, message: str) -> dict[str, int]:
        """Return how often each emoji is at a message."""
        found: dict[str, int] = self._ask("reactions", channel=channel, id=message)["found"]
        return found

    def join(self, channel: str) -> None:
        """Have Discord itself write that a member has joined."""
        self._ask("join", channel=channel)

    def thread(self, channel: str, name: str) -> None:
        """Open a thread in a channel; it is another channel then."""
        self.channels[name] = self._ask("thread", channel=channel, name=name)["id"]

    def slash(self, channel: str, name: str, **options: Any) -> str:
        """Send a command as the person; return the interaction's id."""
        sent: str = self._ask("slash", channel=channel, name=name, options=options)["id"]
        return sent

    def press(self, channel: str, message: str, label: str, text: str = "") -> str:
        """Press a button of a message; `text` is what it says, where that is a question."""
        return str(self._ask("press", channel=channel, id=message, label=label, text=text)["id"])

    def expire(self, interaction: str) -> None:
        """Have an interaction's time be over."""
        self._ask("expire", id=interaction)

    def commands(self) -> dict[str, dict[str, Any]]:
        """Return the registered commands by name."""
        return {one["name"]: one for one in self._ask("commands")["commands"]}

    @property
    def synced(self) -> int:
        """Return how often the bot has registered its commands."""
        return int(self._ask("commands")["synced"])

    @property
    def identified(self) -> list[dict[str, Any]]:
        """Return what the bot identified with, each time."""
        found: list[dict[str, Any]] = self._ask("gateway")["identified"]
        return found

    @property
    def resumed(self) -> int:
        """Return how often a session was resumed."""
        return int(self._ask("gateway")["resumed"])

    def set(self, **values: int) -> None:
        """Set `starts`, the session starts that are left today, or `shards`."""
        self._ask("set", **values)

    def fail(self, kind: str, path: str = "*", **more: Any) -> None:
        """Have the next matching request fail: `tests/support/discord_faults.py` has the kinds."""
        self._ask("fault", kind=kind, path=path, **more)

    @property
    def faults(self) -> list[str]:
        """Return the kinds of the faults that were met, in order."""
        found: list[str] = self._ask("set")["faults"]
        return found

    def disconnect(self, keep: bool = True) -> None:
        """End all connections of the gateway; sessions can be resumed afterwards, or not."""
        self._ask("disconnect", keep=keep)

    def deafen(self) -> None:
        """Have the gateway's connections stay open, and carry no events."""
        self._ask("deafen")

    def drop(self, times: int = 1) -> None:
        """End the connection after the arrival of the next messages of the bot."""
        self.fail("cut", "*/messages", method="POST", times=times)

    def read(self) -> list[Said]:
        """Return the whole record, in order of arrival, each message as it is now."""
        record = self._ask("record", after=len(self.messages), edited=self._edited)
        self.messages += [Said(**one) for one in record.pop("messages")]
        edits = record.pop("edits")
        self._edited += len(edits)
        for place, changed in edits:
            self.messages[place] = Said(**changed)
        self.counted = record
        return self.messages

    def answers(self) -> list[str]:
        """Return the texts of the bot's messages, in order."""
        return [one.text for one in self.read() if one.bot]

    def counts(self) -> Counts:
        """Count the questions of the record and their answers.

        A command or press that the bot has not acknowledged, as it did not run, is none: Discord
        shows the person that it failed. If it is answered all the same, it counts.
        """
        messages = self.read()
        answered = {word for one in messages if one.bot for word, _, _ in PIECE.findall(one.text)}
        passed = set(self.counted["passed"])
        return count(
            one for one in messages if one.id not in passed or one.text.split()[0] in answered
        )

    def until_answered(self, timeout: float = PATIENCE) -> Counts:
        """Wait until each question has its whole answer; return the counts."""
        until(lambda: not self.counts().unanswered, timeout, "every question is answered")
        return self.counts()

    def until_bots(self, count: int) -> None:
        """Wait until so many bots are connected."""

        def there() -> bool:
            self.read()
            return bool(self.counted["bots"] == count)

        until(there, what=f"{count} bots are connected")

    def _ask(self, what: str, **data: Any) -> Any:
        body = json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/_test/{what}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def discord_bridge(*channels: str, guilds: int = 1) -> Iterator[DiscordBridge]:
    """Run a bridge in a process of its own, with servers that have these channels."""
    with serving("discord_bridge", str(guilds), *channels) as port:
        yield DiscordBridge(port)
