"""The telegram service where Telegram, the wire, or another process gets in its way; webhooks."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.ports import free_port
from tests.support.telegram_client import TelegramServer, telegram_server
from tests.support.waiting import until

from garrison.ipc import NotSent

pytestmark = pytest.mark.external

CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
telegram = {{}}
[defaults]
intensity = 0
[services.telegram]
secrets = ["TELEGRAM_BOT_TOKEN"]
[services.telegram.config]
base_url = "{url}"
settle = 0.2
{more}
"""
WEBHOOK = """
mode = "webhook"
webhook_url = "https://bot.example.org/telegram"
listen = "127.0.0.1:{port}"
"""


@pytest.fixture(scope="module")
def server() -> Iterator[TelegramServer]:
    """Run Telegram."""
    with telegram_server() as there:
        yield there


def running(server: TelegramServer, more: str = "") -> Iterator[Host]:
    """Run a bot."""
    files = {"config.toml": CONFIG.format(url=server.url, more=more)}
    env = {"TELEGRAM_BOT_TOKEN": f"{os.getpid()}:faults{bool(more)}"}
    with hosting("", ["parrot"], files, env, up=False) as host:
        host.up()
        yield host


@pytest.fixture(scope="module")
def bot(server: TelegramServer) -> Iterator[Host]:
    """Run a bot that polls."""
    for host in running(server):
        server.until_polled()
        yield host


@pytest.mark.parametrize(("kind", "room"), [("429", "1"), ("slow", "2"), ("moved", "-3")])
def test_an_answer_that_was_surely_not_sent(
    server: TelegramServer, bot: Host, kind: str, room: str
) -> None:
    """It is sent later, once; to a group that has become a supergroup, at its new id."""
    server.fault("sendMessage", kind, seconds=1.0 if kind == "429" else 0.3, chat=-1003)
    server.say(room, f"q{room.removeprefix('-')} long")
    until(lambda: f"[q{room.removeprefix('-')}.3/3]" in "".join(server.answers()))
    to = [one.channel for one in server.read() if one.bot][-1]
    assert to == ("-1003" if kind == "moved" else room)


@pytest.mark.parametrize(
    ("kind", "arrived"),
    [
        ("cut", 1),
        ("half", 1),
        ("garbled", 1),
        ("500 after", 1),
        ("500", 0),
        ("502", 0),
        ("lost", 0),
    ],
)
async def test_an_answer_of_which_nothing_is_known(
    server: TelegramServer, bot: Host, kind: str, arrived: int
) -> None:
    """It is not sent twice: it is uncertain, and counted."""
    server.fault("sendMessage", kind)
    async with bot.connect() as client:
        sent = await found(client, "telegram").send_message("9", f"uncertain {kind}")
    assert sent["outcome"] == "uncertain"
    assert server.answers().count(f"uncertain {kind}") == arrived


async def test_a_person_who_blocks_the_bot(server: TelegramServer, bot: Host) -> None:
    """The message is refused, with Telegram's words."""
    server.fault("sendMessage", "blocked")
    async with bot.connect() as client:
        with pytest.raises(NotSent, match="blocked by the user"):
            await found(client, "telegram").send_message("9", "hello")


@pytest.mark.parametrize("kind", ["502", "lost", "cut", "half", "garbled"])
def test_a_poll_that_fails(server: TelegramServer, bot: Host, kind: str) -> None:
    """The next one has what it would have had."""
    before = len(server.answers())
    server.fault("getUpdates", kind, times=1, seconds=1.0)
    server.say("10", f"q{100 + before} short")  # ends the present poll; the next one fails
    server.say("10", f"q{101 + before} short")
    until(lambda: len(server.answers()) == before + 2)
    server.until_confirmed()
    assert server.counts().twice == []


def test_another_process_polls(server: TelegramServer, bot: Host) -> None:
    """It is shown as what it is; when the other one has ended, messages are answered again."""
    server.fault("getUpdates", "409", times=2)
    server.say("10", "q200 short")
    until(lambda: "another process polls" in json.dumps(bot.status("telegram")))
    until(lambda: "[q200.1/1]" in server.answers())


@pytest.fixture(scope="module")
def port() -> int:
    """Return a free port."""
    return free_port()


@pytest.fixture(scope="module")
def hooked(port: int) -> Iterator[tuple[TelegramServer, Host]]:
    """Run a bot that Telegram sends updates to."""
    with telegram_server() as server:
        server.forward_hook(port)
        for host in running(server, WEBHOOK.format(port=port)):
            until(lambda: server.state()["hook"], what="the webhook is set")
            yield server, host


def test_a_webhook(hooked: tuple[TelegramServer, Host]) -> None:
    """Telegram's updates are answered, and taken once they are handed over."""
    server, bot = hooked
    for number, room in enumerate(("1", "1", "-1001/5", "2"), 1):
        server.say(room, f"q{number} short")
    assert server.until_answered().faults == {}
    server.until_confirmed()
    bot.ask("stop", "telegram")
    server.say("1", "q5 short")
    bot.ask("start", "telegram")
    assert server.until_answered().faults == {}


def post(port: int, body: bytes, secret: str) -> int:
    """Send the bot's webhook something; return the status."""
    headers = {"X-Telegram-Bot-Api-Secret-Token": secret}
    url = f"http://127.0.0.1:{port}/telegram"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_webhook_without_the_secret(hooked: tuple[TelegramServer, Host], port: int) -> None:
    """Somebody else's request is refused, and logged."""
    assert post(port, b"{}", "") == 403
    assert post(port, b"{}", "wrong \xe9") == 403
    _, bot = hooked
    until(lambda: "telegram.webhook_refused" in bot.log("telegram"))
