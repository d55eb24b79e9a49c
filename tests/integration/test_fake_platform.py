"""The fake platform's record is what a person would have read, whatever happens on the wire."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.platform_client import FakePlatform, fake_platform
from tests.support.waiting import until


@pytest.fixture(scope="module")
def running() -> Iterator[FakePlatform]:
    """Run one for all tests; each has channels of its own."""
    with fake_platform() as platform:
        yield platform


@pytest.fixture
def platform(running: FakePlatform) -> FakePlatform:
    """Return it with its first settings."""
    running.set(dedupe=True, lookup=True, latency=0.0, longest=0)
    running.ask("end_faults")
    return running


class Bot:
    """A connection that reads the answers itself."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> "Bot":
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def begin(self, do: str, **what: Any) -> None:
        """Send a request."""
        self._socket.sendall(json.dumps({"n": 1, "do": do, **what}).encode() + b"\n")

    def next(self) -> Any:
        """Return the next line; None if the connection has ended."""
        try:
            line = self._lines.readline()
        except ConnectionError:
            return None
        return json.loads(line) if line else None

    def do(self, do: str, **what: Any) -> Any:
        """Make one request; return its answer."""
        self.begin(do, **what)
        return self.next()


def test_a_bot_hears_what_is_said_after_its_login_and_reads_the_rest(
    platform: FakePlatform,
) -> None:
    """Also its own messages; the history is in order, after a position."""
    platform.say("hall", "before")
    with Bot(platform.path) as bot:
        bot.do("login")
        platform.say("hall", "after")
        assert bot.next()["heard"]["text"] == "after"
        assert "hall" in bot.do("channels")["value"]
        texts = [one["text"] for one in bot.do("history", channel="hall", after=1)["value"]]
        assert texts == ["after"]
        bot.begin("send", channel="hall", text="here")
        heard, answer = bot.next()["heard"], bot.next()
    assert (heard["text"], heard["bot"], heard["id"]) == ("here", True, answer["value"]["id"])
    platform.until_bots(0)


def test_a_nonce_is_one_message_where_the_platform_knows_nonces(platform: FakePlatform) -> None:
    """Its id can be looked up; without, there are two."""
    with Bot(platform.path) as bot:
        one, same = (bot.do("send", channel="n", text="x", nonce="7")["value"] for _ in "12")
        assert one == same
        assert bot.do("lookup", channel="n", nonce="7")["value"] == one["id"]
        assert bot.do("lookup", channel="n", nonce="8")["value"] is None
        platform.set(dedupe=False, lookup=False)
        assert bot.do("send", channel="n", text="x", nonce="7")["value"] != one
        assert bot.do("lookup", channel="n", nonce="7")["error"] == "unknown"
    assert platform.answers("n") == ["x", "x"]
    assert platform.counted["repeated"] == 1


@pytest.mark.parametrize(
    ("kind", "error", "arrives"),
    [
        ("lose", None, False),
        ("drop", None, True),
        ("refuse", "refused", False),
        ("fail", "failed", False),
    ],
)
def test_a_fault_happens_once(
    platform: FakePlatform, kind: str, error: str | None, arrives: bool
) -> None:
    """A connection that ends after the message's arrival differs only in the record."""
    platform.fault("send", kind)
    with Bot(platform.path) as bot:
        answer = bot.do("send", channel=kind, text="x")
        assert (answer and answer["error"]) == error
    assert platform.answers(kind) == ["x"] * arrives
    with Bot(platform.path) as bot:
        assert "value" in bot.do("send", channel=kind, text="y")


def test_a_message_under_way_arrives_after_its_bot_is_gone(platform: FakePlatform) -> None:
    """As one of a killed process does."""
    platform.fault("send", "delay", seconds=0.05)
    with Bot(platform.path) as bot:
        bot.begin("send", channel="late", text="x")
        bot.do("typing", channel="late")  # the other was read before
        assert platform.answers("late") == []
    until(lambda: platform.answers("late") == ["x"])


def test_a_text_that_is_too_long_is_refused(platform: FakePlatform) -> None:
    """With the limit."""
    platform.set(longest=3)
    with Bot(platform.path) as bot:
        assert bot.do("send", channel="long", text="four")["text"] == "4 characters; the limit is 3"
