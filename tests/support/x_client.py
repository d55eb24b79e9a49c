"""A test's side of X: its process, what is said there, and its record."""

import contextlib
import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Any

from tests.support.answer_counts import Counts, Said, count
from tests.support.server_process import serving
from tests.support.waiting import PATIENCE, until

# The secrets of a service; the token of the account is locked in the whole machine
TOKENS = {
    "TWITTER_API_KEY": "key",
    "TWITTER_API_SECRET_KEY": "key-secret",
    "TWITTER_ACCESS_TOKEN": f"7-token-{os.getpid()}",
    "TWITTER_ACCESS_TOKEN_SECRET": "token-secret",
}
APP_TOKEN = {"TWITTER_BEARER_TOKEN": "app-token"}


class XServer:
    """The running X."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.messages: list[Said] = []  # its record, as far as it was read
        self.counted: dict[str, Any] = {}

    def say(self, channel: str, text: str, picture: bool = False) -> str:
        """Mention the bot as a person, in a conversation of this name; return the post's id."""
        said: str = self.ask("say", channel=channel, text=text, picture=picture)["id"]
        return said

    def say_direct(self, text: str, other: str = "9") -> str:
        """Write to the bot as a person."""
        said: str = self.ask("direct", text=text, other=other)["id"]
        return said

    def reset(self) -> None:
        """Begin anew, without posts, faults and limits."""
        self.messages, self.counted = [], {}
        self.ask("reset")

    def set(self, **settings: Any) -> None:
        """Change what X does: `lag`, `refuse_duplicates`, `cap`, `used`."""
        self.ask("set", **settings)

    def limit(self, of: str, remaining: int, seconds: float) -> None:
        """Set what is left of an endpoint's limit, and when it is renewed."""
        self.ask("limit", of=of, remaining=remaining, seconds=seconds)

    def fault(self, of: str, kind: str, times: int = 1, seconds: float = 0.0) -> None:
        """Have the next requests of an endpoint go wrong: `before`, `after`, `half`, `slow`, or
        a status."""
        self.ask("fault", of=of, kind=kind, times=times, seconds=seconds)

    def read(self) -> list[Said]:
        """Return the whole record, in order of arrival."""
        record = self.ask("record", after=len(self.messages))
        self.messages += [Said(**one) for one in record.pop("messages")]
        self.counted = record
        return self.messages

    def requests(self, of: str) -> int:
        """Return how many requests of an endpoint there were."""
        self.read()
        return int(self.counted["requests"].get(of, 0))

    def answers(self) -> list[str]:
        """Return the texts of the bot's posts, in order."""
        return [one.text for one in self.read() if one.bot]

    def counts(self) -> Counts:
        """Count the questions of the record and their answers."""
        return count(self.read())

    def until_answered(self, timeout: float = PATIENCE) -> Counts:
        """Wait until each question has its whole answer; return the counts."""
        until(lambda: not self.counts().unanswered, timeout, "every question is answered")
        return self.counts()

    def faults(self) -> dict[str, list[str]]:
        """Return what must not be: of answers, and of what X's schema does not have."""
        found = dict(self.counts().faults)
        if self.counted["violations"]:
            found["violations"] = self.counted["violations"]
        return found

    def ask(self, what: str, **data: Any) -> Any:
        """Make a request of the test's own."""
        body = json.dumps(data).encode()
        request = urllib.request.Request(f"{self.url}/_test/{what}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)


@contextlib.contextmanager
def x_server() -> Iterator[XServer]:
    """Run X in a process of its own."""
    with serving("x_server") as port:
        yield XServer(port)
