"""A test's side of Telegram's API on loopback: its process, what people do there, its record."""

import base64
import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.answer_counts import Counts, Said, count
from tests.support.server_process import serving
from tests.support.waiting import PATIENCE, until


class TelegramServer:
    """The running server."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.messages: list[Said] = []  # its record, as far as it was read

    # --- what people do -----------------------------------------------------------------------

    def say(self, room: str, text: str, sender: dict[str, Any] | None = None, **more: Any) -> str:
        """Say something as a person; return the message's id.

        Args:
            room: `CHAT` or `CHAT/TOPIC`.
            text: What.
            sender: Replaces fields of the person.
            more: Fields of the message; `reply_to` is the id of a message of the bot.
        """
        said: str = self.ask("say", room=room, text=text, sender=sender or {}, more=more)["id"]
        return said

    def update(self, kind: str, **content: Any) -> None:
        """Send the bot an update of a kind."""
        self.ask("update", kind=kind, content=content)

    def press(self, message: str, label: str) -> str:
        """Press a button of a message of the bot; return the id of the press."""
        pressed: str = self.ask("press", message=message, label=label)["id"]
        return pressed

    def put_file(self, id: str, data: bytes) -> None:
        """Have a file that the bot can fetch."""
        self.ask("file", id=id, data=base64.b64encode(data).decode())

    # --- what goes wrong ----------------------------------------------------------------------

    def fault(self, method: str, kind: str, times: int = 1, **more: Any) -> None:
        """Have the next calls of a method go wrong; see `Server._before` and `_after`."""
        self.ask("fault", method=method, kind=kind, times=times, **more)

    def forward_hook(self, port: int) -> None:
        """Have webhooks arrive at a port of this machine, as a proxy does."""
        self.ask("hook", at=f"http://127.0.0.1:{port}")

    # --- what came of it ----------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return what the server knows."""
        shown: dict[str, Any] = self.ask("state")
        return shown

    def read(self) -> list[Said]:
        """Return the whole record, in order of arrival."""
        record = self.ask("record", after=len(self.messages))
        self.messages += [Said(**one) for one in record]
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

    def until_confirmed(self) -> None:
        """Wait until the bot has confirmed every update."""
        until(lambda: not self.state()["kept"], what="every update is confirmed")

    def until_polled(self) -> None:
        """Wait until a bot polls."""
        until(lambda: self.state()["polling"], what="the bot polls")

    def ask(self, what: str, **data: Any) -> Any:
        """Have the server do something."""
        body = json.dumps(data).encode()
        request = urllib.request.Request(
            f"{self.url}/_test/{what}", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def telegram_server() -> Iterator[TelegramServer]:
    """Run the API in a process of its own."""
    with serving("telegram_server") as port:
        yield TelegramServer(port)
