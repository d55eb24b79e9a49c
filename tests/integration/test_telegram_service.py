"""The telegram service on Telegram's API on loopback: what is not an answer, and faults.

Answers under kills are in `tests/chaos/test_telegram.py`.
"""

import base64
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import Host, found, hosting
from tests.support.telegram_client import TelegramServer, telegram_server
from tests.support.waiting import eventually, until

from garrison.ipc import NotSent, OrderFailed

pytestmark = pytest.mark.external

TOKEN = f"{os.getpid()}:service"
GROUP, TOPIC, PERSON, QUIET = "-1001", "-1001/5", "77", "-1009"
CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
deeds = {{ use = "parrot:deeds" }}
telegram = {{}}
notes = {{}}
[defaults]
intensity = 0
env = {{ DEEDS = "{folder}" }}
[services.telegram]
secrets = ["TELEGRAM_BOT_TOKEN"]
[services.telegram.config]
channels = ["Group 1001"]
base_url = "{url}"
parse_mode = "Markdown"
settle = 0.2
fetch_bytes = 100
[services.refused]
plugin = "telegram"
autostart = false
secrets = {{ TELEGRAM_BOT_TOKEN = "BAD_TOKEN" }}
[services.refused.config]
base_url = "{url}"
[services.second]
plugin = "telegram"
autostart = false
secrets = ["TELEGRAM_BOT_TOKEN"]
[services.second.config]
base_url = "{url}"
"""
NOTES = """
from garrison.workers import Plugin, Service

EVENTS = ("MESSAGE_EDITED", "REACTION_RECEIVED")
SEEN = []


class Notes(Service):
    service_type = "notes"

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        for event in EVENTS:
            runtime.register_event(event, service.noting(event))
        runtime.register_model("TRANSCRIPTION", transcribe)
        return service

    def noting(self, event):
        return lambda payload: SEEN.append([event, payload])

    async def all(self) -> list:
        return SEEN


async def transcribe(runtime, params):
    return params["audio"].decode()


def gate(runtime, memory):
    SEEN.append(["RECEIVED", memory])


plugin = Plugin(name="notes", services=[Notes], gate=gate)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[TelegramServer]:
    """Run Telegram."""
    with telegram_server() as there:
        yield there


@pytest.fixture(scope="module")
def bot(server: TelegramServer) -> Iterator[Host]:
    """Run the bot, and two that are not started: with a bad token, and with the same one."""
    env = {"TELEGRAM_BOT_TOKEN": TOKEN, "BAD_TOKEN": f"bad{os.getpid()}"}
    with hosting("", ["parrot"], {"notes.py": NOTES}, env, up=False) as host:
        host.write("config.toml", CONFIG.format(url=server.url, folder=host.folder))
        host.up()
        server.until_polled()
        yield host


async def noted(bot: Host, event: str) -> list[dict[str, Any]]:
    """Return the events of a name that another service has received."""
    async with bot.connect() as client:
        return [data for name, data in await found(client, "notes").all() if name == event]


def test_messages_are_answered_where_they_were_written(server: TelegramServer, bot: Host) -> None:
    """In a person's chat, a group and a topic; not in a group that is not listed."""
    for number, room in enumerate((PERSON, QUIET, GROUP, TOPIC), 1):
        server.say(room, f"q{number} short")
    until(lambda: len(server.answers()) == 3)
    server.until_confirmed()
    rooms = {one.text: one.channel for one in server.read() if one.bot}
    assert rooms == {"[q1.1/1]": PERSON, "[q3.1/1]": GROUP, "[q4.1/1]": TOPIC}


async def test_an_edit_and_a_reaction(server: TelegramServer, bot: Host) -> None:
    """Both are events of their own; neither is answered."""
    said = server.say(PERSON, "q5 short")
    until(lambda: "[q5.1/1]" in server.answers())
    chat, ada = {"id": 77, "type": "private"}, {"id": 77, "is_bot": False, "first_name": "Ada"}
    about = {"message_id": int(said), "date": 1, "chat": chat}
    server.update("edited_message", **about, **{"from": ada, "text": "q6 short", "edit_date": 2})
    thumb = {"old_reaction": [], "new_reaction": [{"type": "emoji", "emoji": "👍"}]}
    server.update("message_reaction", **about, user=ada, **thumb)
    reactions = await eventually(lambda: noted(bot, "REACTION_RECEIVED"))
    assert reactions == [
        {"source": "telegram", "room_id": "77", "id": said, "entity_id": "77", "emoji": "👍"}
    ]
    (edited,) = await noted(bot, "MESSAGE_EDITED")
    assert edited["content"]["text"] == "q6 short"
    server.until_confirmed()
    assert "[q6.1/1]" not in server.answers()


async def test_a_press_of_a_button_is_a_message(server: TelegramServer, bot: Host) -> None:
    """It is answered, acknowledged, and the buttons are taken away."""
    choices = [{"label": "Do it", "value": "q7 short"}, "q8 short"]
    async with bot.connect() as client:
        content = {"text": "Which?", "data": {"choices": choices}}
        sent = await found(client, "telegram").send_message(GROUP, content)
    (message,) = sent["ids"]
    press = server.press(message, "Do it")
    until(lambda: "[q7.1/1]" in server.answers())
    until(lambda: press in server.state()["presses"])
    until(lambda: "reply_markup" not in server.state()["sent"][message])
    received = [one for one in await noted(bot, "RECEIVED") if one["metadata"].get("choice")]
    assert [one["content"]["in_reply_to"] for one in received] == [f"telegram/{GROUP}/{message}"]


def test_commands_are_actions(server: TelegramServer, bot: Host) -> None:
    """The menu has the agent's actions; one that is typed is run instead of an answer."""
    until(lambda: server.state()["commands"])
    assert {one["command"] for one in server.state()["commands"]} == {"deed", "safe"}
    server.say(GROUP, "/safe@garrison_bot q9 safe")
    server.say(GROUP, "/safe@other_bot q10 safe")
    until(lambda: "[q9.1/1]" in server.answers())
    server.until_confirmed()
    assert not any("q10" in text for text in server.answers())
    assert server.state()["calls"].count("setMyCommands") == 1


async def test_files_come_in(server: TelegramServer, bot: Host) -> None:
    """A small one with its data, a large one by its id; a voice message is its text as well."""
    files = {"small": b"a small one", "large": b"a large one" * 20, "voice": b"q11 short"}
    for id, data in files.items():
        server.put_file(id, data)
    sizes = {
        id: {"file_id": id, "file_unique_id": id, "file_size": len(data)}
        for id, data in files.items()
    }
    server.say(PERSON, "", caption="q12 short", document={**sizes["small"], "file_name": "a.txt"})
    server.say(PERSON, "", caption="q13 short", document={**sizes["large"], "file_name": "b.txt"})
    server.say(PERSON, "", voice={**sizes["voice"], "duration": 1})
    until(lambda: {"[q11.1/1]", "[q12.1/1]", "[q13.1/1]"} <= set(server.answers()))
    (small,), (large,), (voice,) = [
        one["content"]["attachments"]
        for one in await noted(bot, "RECEIVED")
        if one["content"]["attachments"]
    ]
    assert base64.b64decode(small["url"].partition(",")[2]) == b"a small one"
    assert (large["url"], large["title"]) == ("telegram:large", "b.txt")
    assert voice["content_type"] == "audio/ogg"
    async with bot.connect() as client:
        telegram = found(client, "telegram")
        assert await telegram.fetch_file(large["url"]) == b"a large one" * 20
        with pytest.raises(NotSent, match="cannot be fetched"):
            await telegram.fetch_file("telegram:unknown")


async def test_files_go_out(server: TelegramServer, bot: Host) -> None:
    """Data becomes a file, an image that cannot be fetched a link; a path is refused."""
    data = base64.b64encode(b"a small text").decode()
    note = {"url": f"data:text/plain;base64,{data}", "title": "note.txt"}
    image = {"url": "https://example.org/a.png", "content_type": "image/png"}
    async with bot.connect() as client:
        telegram = found(client, "telegram")
        await telegram.send_message(QUIET, {"text": "a file", "attachments": [note]})
        await telegram.send_message(QUIET, {"text": "an image", "attachments": [image]})
        for url in ("/etc/passwd", "telegram:/etc/passwd"):
            with pytest.raises(NotSent, match="/etc/passwd"):
                await telegram.send_message(QUIET, {"attachments": [{"url": url}]})
        for channel, why in (("Tea", "CHAT/TOPIC"), ("404", "Chat not found")):
            with pytest.raises(NotSent, match=why):
                await telegram.send_message(channel, "by its name")
    sent = [(one.text, one.files) for one in server.read() if one.bot and one.channel == QUIET]
    assert sent == [("a file", ["note.txt"]), ("an image\nhttps://example.org/a.png", [])]


async def test_a_long_answer_with_code_arrives_whole(server: TelegramServer, bot: Host) -> None:
    """In order, each part within Telegram's limit, also where the markup is refused."""
    lines = [f"line {number} of *code" for number in range(300)]
    text = "\n".join(["Here it is:", "```python", *lines, "```", "That was it."])
    assert len(text) > 5000
    async with bot.connect() as client:
        await found(client, "telegram").send_message("78", text)
    parts = [one.text for one in server.read() if one.channel == "78"]
    assert len(parts) == 2
    assert all(len(one) <= 4096 and one.count("```") == 2 for one in parts)
    there = [line for part in parts for line in part.splitlines() if line.startswith("line")]
    assert there == lines


def test_a_refused_token_names_the_place_of_a_new_one(bot: Host) -> None:
    """It is not tried again."""
    with pytest.raises(OrderFailed, match=r"@BotFather"):
        bot.ask("start", "refused")
    reason = bot.wait_for("refused", "failed")["reason"]
    assert "TELEGRAM_BOT_TOKEN" in reason
    assert str(os.getpid()) not in reason


def test_a_second_service_with_the_token_is_refused(bot: Host) -> None:
    """Both would take messages from each other."""
    with pytest.raises(OrderFailed, match="TELEGRAM_BOT_TOKEN"):
        bot.ask("start", "second")


def test_the_token_is_in_no_log(bot: Host) -> None:
    """Neither as it is, nor in an address."""
    assert bot.status("telegram")["state"] == "running"
    logs = "".join(one.read_text() for one in bot.home.rglob("*.log"))
    assert "telegram" in logs
    assert TOKEN not in logs
