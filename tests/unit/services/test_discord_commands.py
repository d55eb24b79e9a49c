"""The discord service's decisions on commands, buttons, and the messages that answer them."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import discord
import pytest

from garrison.workers import Choice, Command, Content, Memory, NotSent, Outgoing
from garrison.workers.services.discord import commands as shapes
from garrison.workers.services.discord import interaction_store
from garrison.workers.services.discord.buttons import chosen_text, disabled, view
from garrison.workers.services.discord.config import Config, GuildConfig
from garrison.workers.services.discord.files_on_disk import read_record
from garrison.workers.services.discord.incoming import chosen, commanded, is_wanted
from garrison.workers.services.discord.interaction_store import (
    LIFE_S,
    InteractionStore,
    Record,
)
from garrison.workers.services.discord.outgoing import is_sent, reference_of
from garrison.workers.services.discord.registering import ABSENT_S, Commands

BOT: Any = SimpleNamespace(id=7)
TIP = Command(
    "send_tip",
    "Sends money",
    "SEND_TIP",
    {
        "type": "object",
        "properties": {
            "note": {"type": "string"},
            "toWhom": {"type": "string", "description": "Who gets it"},
            "amount": {"type": "integer", "enum": [1, 5]},
            "a b": {"type": "number"},
            "A-B": {"type": "boolean"},
        },
        "required": ["toWhom"],
    },
)
PING = Command("ping", "Answers", "PING")


def test_a_command_as_discord_registers_it() -> None:
    """Required options come first; names fit Discord's letters, and no two are the same."""
    ping, tip = shapes.payload_of([TIP, PING])
    assert ping["options"] == [
        {"name": "text", "description": shapes.TEXT_ABOUT, "type": 3, "required": False}
    ]
    assert [(one["name"], one["type"], one["required"]) for one in tip["options"]] == [
        ("towhom", 3, True),
        ("note", 3, False),
        ("amount", 4, False),
        ("a_b", 10, False),
        ("a-b", 5, False),
    ]
    assert tip["options"][0]["description"] == "Who gets it"
    assert tip["options"][2]["choices"] == [{"name": "1", "value": 1}, {"name": "5", "value": 5}]


def test_options_are_translated_back() -> None:
    """What the action does not know is left out."""
    given = {"towhom": "ada", "a_b": 1.5, "other": 1}
    assert shapes.options_of(TIP, given) == {"toWhom": "ada", "a b": 1.5}
    assert shapes.text_of(TIP, {"towhom": "ada", "amount": 5}) == "towhom: ada, amount: 5"
    assert shapes.text_of(PING, {"text": "hello"}) == "hello"
    assert shapes.text_of(PING, {}) == ""


def test_names_that_become_the_same_differ() -> None:
    """One that has no letter of Discord's gets a number, too."""
    properties = {"a b": {"type": "string"}, "a_b": {"type": "string"}, "ß": {"type": "string"}}
    command = Command("c", "c", "C", {"properties": properties})
    assert shapes.option_names(command) == {"a_b": "a b", "option_2": "a_b", "option_3": "ß"}


class Registry:
    """A host and a Discord for `Commands`."""

    def __init__(self, folder: Path) -> None:
        self.data_folder = folder
        self.there = [PING]
        self.sent: list[list[str]] = []
        self.problem: Exception | None = None
        self.warning: str | None = None

    def warn(self, _: str, text: str | None) -> None:
        """Take a warning."""
        self.warning = text

    async def request(self, method: str, path: str, body: Any) -> None:
        """Take a registration."""
        if self.problem:
            raise self.problem
        assert (method, path) == ("PUT", "/applications/5/commands")
        self.sent.append([one["name"] for one in body])

    async def commands(self, wanted: bool | list[str] = True) -> Commands:
        """Return what registers, as after a start."""
        runtime: Any = self
        made = Commands(runtime, self.request, lambda: self.there if wanted else [], wanted)
        await made.open("5")
        return made


async def test_commands_are_registered_when_they_change(tmp_path: Path) -> None:
    """A restart registers nothing that is there already."""
    registry = Registry(tmp_path)
    commands = await registry.commands()
    await commands.refresh()
    await commands.refresh()
    again = await registry.commands()
    await again.refresh()
    assert registry.sent == [["ping"]]
    assert again.find("ping") == PING
    registry.there = [PING, TIP]
    await again.refresh()
    assert registry.sent[1:] == [["ping", "send_tip"]]


async def test_a_plugin_that_restarts_keeps_its_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ten minutes without it they go."""
    registry = Registry(tmp_path)
    await (await registry.commands()).refresh()
    registry.there = []
    commands = await registry.commands()
    await commands.refresh()
    assert registry.sent == [["ping"]]
    later = time.monotonic() + ABSENT_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    await commands.refresh()
    assert registry.sent[1:] == [[]]


async def test_commands_that_the_config_no_longer_wants_go_at_once(tmp_path: Path) -> None:
    """With `commands = false` a bot that never had any touches nothing."""
    registry = Registry(tmp_path)
    await (await registry.commands(False)).refresh()
    assert registry.sent == []
    await (await registry.commands()).refresh()
    await (await registry.commands(False)).refresh()
    assert registry.sent == [["ping"], []]


async def test_a_registration_that_fails_is_shown_and_tried_later(tmp_path: Path) -> None:
    """The scope that is missing is named."""
    registry = Registry(tmp_path)
    response: Any = SimpleNamespace(status=403, reason="Forbidden")
    registry.problem = discord.Forbidden(response, {"code": 50001, "message": "Missing Access"})
    commands = await registry.commands()
    await commands.refresh()
    assert "applications.commands" in str(registry.warning)
    registry.problem = None
    await commands.refresh()  # not yet
    assert registry.sent == []


async def test_buttons_have_their_values_in_their_ids() -> None:
    """Equal values are different buttons; one that is too long is refused."""
    made = view([Choice("Yes", "1"), Choice("No", "1"), Choice("Maybe")], discord)
    buttons: Any = made.children
    assert [one.custom_id for one in buttons] == ["a1", "b1", "c"]
    message: Any = SimpleNamespace(components=[SimpleNamespace(children=buttons)])
    assert [chosen_text(message, id) for id in ("a1", "c", "zz")] == ["1", "Maybe", ""]
    after: Any = disabled(message, "b1", discord).children
    assert [(one.disabled, one.style.name) for one in after] == [
        (True, "secondary"),
        (True, "success"),
        (True, "secondary"),
    ]
    with pytest.raises(NotSent, match="at most 99"):
        view([Choice("Yes", "x" * 100)], discord)


def interaction(**changed: Any) -> Any:
    """Return an interaction with the attributes that are read of the library's."""
    fields = {
        "id": 11,
        "guild_id": 5,
        "guild": SimpleNamespace(id=5, name="tests"),
        "channel_id": 3,
        "channel": SimpleNamespace(id=3, name="general"),
        "user": SimpleNamespace(id=9, display_name="Ada", bot=False),
        "created_at": SimpleNamespace(timestamp=lambda: 1.5e9),
        "data": {"name": "send_tip", "options": [{"name": "towhom", "value": "bob"}]},
        "message": SimpleNamespace(id=12),
    }
    return SimpleNamespace(**fields | changed)


def test_a_command_as_garrison_takes_it() -> None:
    """It names its action, and counts as a mention."""
    memory = commanded(interaction(), TIP, BOT, Config())
    assert (memory.id, memory.room_id, memory.entity_id) == ("command-11", "3", "9")
    assert memory.content.actions == ["SEND_TIP"]
    assert memory.content.data == {"options": {"toWhom": "bob"}}
    assert memory.metadata["mentioned"]


def test_a_press_as_garrison_takes_it() -> None:
    """Its id is that of the buttons' message, so that the first press counts."""
    memory = chosen(interaction(id=13), "1", BOT, Config())
    assert (memory.id, memory.content.in_reply_to, memory.content.text) == ("choice-12", "12", "1")
    assert memory.metadata["choice"]
    assert memory.metadata["mentioned"]


@pytest.mark.parametrize(
    ("config", "changed", "wanted"),
    [
        (Config(), {}, True),
        (Config(channels=["#general"]), {}, True),
        (Config(channels=["5"]), {}, True),
        (Config(channels=["#other"]), {}, False),
        (Config(channels=["#other"], guild={"5": GuildConfig()}), {}, True),
        (Config(guild={"5": GuildConfig(channels=["#other"])}), {}, False),
        (Config(channels=["#other"]), {"guild_id": None, "guild": None}, True),
        (Config(ignore_dms=True), {"guild_id": None, "guild": None}, False),
        (Config(mentions_only=True), {}, True),
    ],
)
def test_where_commands_are_taken(config: Config, changed: dict[str, Any], wanted: bool) -> None:
    """As with messages that mention the bot."""
    memory = commanded(interaction(**changed), TIP, BOT, config)
    assert is_wanted(memory, config) is wanted


def outgoing(**changed: Any) -> Outgoing:
    """Return a message to Discord."""
    fields: dict[str, Any] = {
        "id": "1/0",
        "nonce": "n",
        "channel": "3",
        "text": "hello",
        "part": 0,
        "parts": 1,
        "reply_to": None,
        "attachments": [],
        "began": 0.0,
        "unsure": False,
    }
    return Outgoing(**fields | changed)


def sent(**changed: Any) -> Any:
    """Return a message of a history."""
    fields = {
        "nonce": None,
        "interaction_metadata": None,
        "flags": SimpleNamespace(loading=False),
        "reference": None,
        "content": "hello",
    }
    return SimpleNamespace(**fields | changed)


COMMAND = SimpleNamespace(id=11)
LOADING = SimpleNamespace(loading=True)


@pytest.mark.parametrize(
    ("there", "message", "same"),
    [
        (sent(), outgoing(), True),
        (sent(content="other"), outgoing(), False),
        (sent(content="other", nonce="n"), outgoing(), True),
        (sent(reference=SimpleNamespace(message_id=8)), outgoing(), False),
        (sent(reference=SimpleNamespace(message_id=8)), outgoing(reply_to="8"), True),
        (sent(reference=SimpleNamespace(message_id=8)), outgoing(reply_to="choice-8"), True),
        (sent(), outgoing(reply_to="command-11", answers="command-11"), True),
        (sent(interaction_metadata=COMMAND), outgoing(answers="command-11"), True),
        (sent(interaction_metadata=COMMAND), outgoing(answers="command-12"), False),
        (sent(interaction_metadata=COMMAND), outgoing(), False),
        (sent(interaction_metadata=COMMAND, flags=LOADING), outgoing(answers="command-11"), False),
    ],
)
def test_a_message_is_found_in_a_history(there: Any, message: Outgoing, same: bool) -> None:
    """A response counts for its own command alone, and not before it has its text."""
    assert is_sent(there, message) is same


def test_what_a_message_refers_to() -> None:
    """A command is no message; the press of a button refers to the message that had it."""
    assert reference_of(outgoing(reply_to="command-11")) is None
    assert reference_of(outgoing(reply_to="choice-8")) == "8"
    assert reference_of(outgoing(reply_to="8")) == "8"


def record(id: str, at: float) -> Record:
    """Return an interaction."""
    return Record(id, "token", "5", at, Memory(content=Content("hello"), id=f"command-{id}"))


async def test_interactions_outlive_their_process_until_their_tokens_expire(tmp_path: Path) -> None:
    """Damaged files are deleted; so is what was written by half."""
    store, now = InteractionStore(tmp_path / "interactions"), time.time()
    await store.open()
    for id, age in (("2", 1.0), ("1", 2.0), ("3", LIFE_S + 1)):
        await store.save(record(id, now - age))
    (tmp_path / "interactions" / "4.json").write_text("{")
    (tmp_path / "interactions" / ".5.json.new").write_text("{}")
    again = InteractionStore(tmp_path / "interactions")
    assert [one.id for one in await again.open()] == ["1", "2"]
    files = sorted((tmp_path / "interactions").iterdir())
    assert [one.name for one in files] == ["1.json", "2.json"]
    assert {one.stat().st_mode & 0o777 for one in files} == {0o600}


async def test_interactions_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes; its answer is an ordinary message then."""
    monkeypatch.setattr(interaction_store, "RECORDS_MOST", 3)
    store, now = InteractionStore(tmp_path / "interactions"), time.time()
    await store.open()
    for number in range(5):
        await store.save(record(str(number), now))
    assert [one.id for one in store.all()] == ["2", "3", "4"]
    assert len(list((tmp_path / "interactions").iterdir())) == 3


def test_what_can_be_edited() -> None:
    """A press has no response of its own, and a token its time."""
    now = time.time()
    assert record("1", now).is_open
    assert not record("1", now - LIFE_S).is_open
    press = record("1", now)
    press.message = "12"
    assert not press.is_open


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    """It is logged, and the service starts."""
    path = tmp_path / "r.json"
    path.write_text('{"id": 1}')
    assert read_record(path, Record) is None
