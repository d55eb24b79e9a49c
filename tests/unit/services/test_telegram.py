"""The telegram service's decisions: messages, mentions, commands, files, choices, and errors."""

import base64
from typing import Any

import httpx
import pytest
import telegram
import telegram.error

from garrison.workers import Choice, Command, Media, NotSent, Outgoing, RetryLater
from garrison.workers.services.telegram.choices import buttons, pressed
from garrison.workers.services.telegram.config import Config, check_webhook_url, listen_of
from garrison.workers.services.telegram.files import File, files_of, media_of, sendable
from garrison.workers.services.telegram.incoming import Bot, command_of, memory_of, reactions_of
from garrison.workers.services.telegram.offsets import Offsets
from garrison.workers.services.telegram.outgoing import as_outcome, calls_of, target_of
from garrison.workers.services.telegram.sender import check_no_paths

PIXEL = base64.b64encode(b"a pixel").decode()
BOT = Bot(4242, "garrison_bot")
ADA = {"id": 77, "is_bot": False, "first_name": "Ada", "last_name": "L", "username": "ada"}
OWN = {"id": 4242, "is_bot": True, "first_name": "Garrison", "username": "garrison_bot"}
GROUP = {"id": -1001, "type": "supergroup", "title": "Tea", "username": "tea"}
PRIVATE = {"id": 77, "type": "private", "first_name": "Ada"}
MENTION = {"entities": [{"type": "mention", "offset": 0, "length": 13}]}


def message(text: str = "hello", **more: Any) -> telegram.Message:
    """Return a message of the library."""
    given = {"message_id": 5, "date": 1_700_000_000, "chat": GROUP, "from": ADA, "text": text}
    found = telegram.Message.de_json(given | more, None)
    assert found is not None
    return found


def outgoing(text: str = "hello", **more: Any) -> Outgoing:
    """Return a message to send."""
    fields = {"id": "m/0", "nonce": "n", "channel": "77", "part": 0, "parts": 1, "reply_to": None}
    return Outgoing(
        **{**fields, "text": text, "attachments": [], "began": 0.0, "unsure": False, **more}
    )


# --- receiving ----------------------------------------------------------------------------------


def test_a_message_of_a_group() -> None:
    """Its room is the chat; its sender, time and names are Telegram's."""
    memory = memory_of(message(), BOT)
    assert (memory.id, memory.room_id, memory.world_id) == ("5", "-1001", "-1001")
    assert (memory.entity_id, memory.created_at) == ("77", 1_700_000_000.0)
    assert memory.content.channel_type == "GROUP"
    about = memory.metadata
    assert (about["name"], about["channel_name"], about["parent_name"]) == ("Ada L", "Tea", "@tea")
    assert [about[key] for key in ("bot", "own", "mentioned")] == [False, False, False]


def test_a_direct_message_and_a_topic() -> None:
    """A private chat is direct; a topic is a room of its own, a thread of replies is not."""
    assert memory_of(message(chat=PRIVATE), BOT).content.channel_type == "DM"
    topic: Any = {"is_topic_message": True, "message_thread_id": 9}
    assert memory_of(message(**topic), BOT).room_id == "-1001/9"
    assert memory_of(message(message_thread_id=9), BOT).room_id == "-1001"


@pytest.mark.parametrize(
    ("text", "more", "mentioned"),
    [
        ("@garrison_bot hello", MENTION, True),
        ("@Garrison_Bot hello", MENTION, True),
        ("@garrison_bat hello", MENTION, False),
        ("@garrison_bot hello", {}, False),  # no entity: Telegram does not take it for a name
        (
            "you",
            {"entities": [{"type": "text_mention", "offset": 0, "length": 3, "user": OWN}]},
            True,
        ),
        (
            "you",
            {"entities": [{"type": "text_mention", "offset": 0, "length": 3, "user": ADA}]},
            False,
        ),
        ("😀 @garrison_bot", {"entities": [{"type": "mention", "offset": 3, "length": 13}]}, True),
    ],
)
def test_a_mention(text: str, more: dict[str, Any], mentioned: bool) -> None:
    """By the bot's name or its account."""
    assert memory_of(message(text, **more), BOT).metadata["mentioned"] is mentioned


def test_a_reply() -> None:
    """A reply to the bot mentions it; a message of a topic does not reply to the topic's first."""
    first = {"message_id": 3, "date": 1, "chat": GROUP, "from": OWN, "text": "yes?"}
    memory = memory_of(message(reply_to_message=first), BOT)
    assert (memory.content.in_reply_to, memory.metadata["mentioned"]) == ("3", True)
    started = {**first, "from": ADA, "forum_topic_created": {"name": "t", "icon_color": 1}}
    memory = memory_of(message(reply_to_message=started), BOT)
    assert (memory.content.in_reply_to, memory.metadata["mentioned"]) == ("", False)


@pytest.mark.parametrize(
    ("more", "sender", "is_bot"),
    [
        ({"from": {**ADA, "is_bot": True}}, "77", True),
        ({"sender_chat": GROUP, "from": {**OWN, "id": 1087968824}}, "-1001", False),  # anonymous
        ({"sender_chat": GROUP, "is_automatic_forward": True}, "-1001", True),
        ({"from": None}, "-1001", False),
    ],
)
def test_who_wrote_it(more: dict[str, Any], sender: str, is_bot: bool) -> None:
    """An anonymous administrator is a chat; what a channel forwards by itself is a bot's."""
    memory = memory_of(message(**more), BOT)
    assert (memory.entity_id, memory.metadata["bot"]) == (sender, is_bot)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"caption": "a photo"}, "a photo"),
        ({"location": {"latitude": 1.5, "longitude": 2.5}}, "1.5, 2.5"),
        ({"contact": {"phone_number": "123", "first_name": "Bob"}}, "Bob, 123"),
        ({"dice": {"emoji": "🎲", "value": 4}}, "🎲 4"),
        ({"new_chat_title": "Tea 2"}, ""),
    ],
)
def test_a_message_without_text(more: dict[str, Any], text: str) -> None:
    """It has its caption, or what it is; what only reports a change has none."""
    assert memory_of(message("", **more), BOT).content.text == text


COMMANDS = {
    "weather": Command(
        "weather",
        "Tells the weather",
        "WEATHER",
        {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    )
}


@pytest.mark.parametrize(
    ("text", "actions", "rest", "options"),
    [
        ("/weather New York", ["WEATHER"], "New York", {"city": "New York"}),
        ("/Weather@garrison_bot Rome", ["WEATHER"], "Rome", {"city": "Rome"}),
        ("/weather", ["WEATHER"], "", {}),
        ("/start", [], "/start", None),
        ("/weathers", [], "/weathers", None),
        ("/why@garrison_bot discord", [], "/why discord", None),
        ("see /weather", [], "see /weather", None),
    ],
)
def test_a_command(text: str, actions: list[str], rest: str, options: Any) -> None:
    """A command that is known names its action, and has what follows as options."""
    memory = command_of(memory_of(message(text), BOT), BOT, COMMANDS)
    assert memory is not None
    assert (memory.content.actions, memory.content.text) == (actions, rest)
    assert memory.content.data.get("options") == options
    assert memory.metadata["mentioned"] is (bool(actions) or "@" in text)


def test_a_command_for_another_bot() -> None:
    """It is no message to this one."""
    found = memory_of(message("/weather@other_bot Rome"), BOT)
    assert command_of(found, BOT, COMMANDS) is None


def test_reactions() -> None:
    """What was added and what was removed are events of their own."""
    emoji = [{"type": "emoji", "emoji": one} for one in "👍🔥❤"]
    given = {"chat": GROUP, "message_id": 5, "date": 1, "user": ADA}
    changed = {**given, "old_reaction": emoji[:2], "new_reaction": emoji[1:]}
    update = telegram.MessageReactionUpdated.de_json(changed, None)
    assert update is not None
    about = {"room_id": "-1001", "id": "5", "entity_id": "77"}
    assert reactions_of(update) == [
        ("REACTION_RECEIVED", {**about, "emoji": "❤"}),
        ("REACTION_REMOVED", {**about, "emoji": "👍"}),
    ]


# --- files --------------------------------------------------------------------------------------


def test_the_files_of_a_message() -> None:
    """Of a photo's sizes the largest one that is small enough; a GIF is one file."""
    sizes = [
        {"file_id": f"p{n}", "file_unique_id": "u", "width": n, "height": n, "file_size": n * 100}
        for n in (1, 2, 3)
    ]
    assert files_of(message("", photo=sizes), 250)[0].id == "p2"
    assert files_of(message("", photo=sizes), 50)[0].id == "p1"
    video = {"file_id": "v", "file_unique_id": "u", "width": 1, "height": 1, "duration": 1}
    document = {"file_id": "d", "file_unique_id": "u", "mime_type": "video/mp4"}
    (found,) = files_of(message("", animation=video, document=document), 50)
    assert (found.id, found.kind) == ("v", "animation")
    voice = {"file_id": "w", "file_unique_id": "u", "duration": 2, "file_size": 9}
    (found,) = files_of(message("", voice=voice), 50)
    assert (found.content_type, found.name, found.size) == ("audio/ogg", "voice.ogg", 9)
    assert media_of(found, None).url == "telegram:w"
    assert media_of(found, b"sound").data() == b"sound"
    assert files_of(message(), 50) == []


def test_attachments_become_files_and_links() -> None:
    """Data is uploaded as what its type is; an id stays one; a page is a link."""
    files, links = sendable(
        [
            Media(f"data:image/png;base64,{PIXEL}", title="pixel.png"),
            Media("data:text/plain,a%20text"),
            Media("data:audio/ogg,sound"),
            Media("telegram:AgAC", content_type="image/jpeg"),
            Media("https://example.org/a.png", content_type="image/png"),
            Media("https://example.org/a.pdf", content_type="application/pdf"),
        ],
        100,
    )
    assert files[:2] == [
        File("photo", b"a pixel", "pixel.png"),
        File("document", b"a text", "file-2.txt"),
    ]
    assert [(one.kind, one.source) for one in files[2:]] == [
        ("voice", b"sound"),
        ("photo", "AgAC"),
        ("photo", "https://example.org/a.png"),
    ]
    assert links == ["https://example.org/a.pdf"]


@pytest.mark.parametrize(
    ("attachments", "why"),
    [
        ([Media("/etc/passwd")], "not '/etc/passwd'"),
        ([Media("file:///etc/passwd")], "http"),
        ([Media("telegram:")], "telegram:"),
        ([Media("data:image/png;base64,%%%")], "damaged"),
        ([Media("data:image/png;base64,")], "no data"),
        ([Media(f"data:text/plain,{'a' * 101}")], "attachment_bytes is 100"),
        ([Media("data:text/plain,a")] * 11, "at most 10"),
    ],
)
def test_an_attachment_that_cannot_be_sent(attachments: list[Media], why: str) -> None:
    """It is refused, and nothing of the message is sent."""
    with pytest.raises(NotSent, match=why):
        calls_of(outgoing(attachments=attachments), 100)


def test_an_id_is_never_a_path() -> None:
    """The library would open a file of that name."""
    with pytest.raises(NotSent, match="this machine"):
        check_no_paths([File("photo", "/etc/passwd", "")])
    check_no_paths([File("photo", "AgAC\0", ""), File("photo", "https://example.org/a.png", "")])


# --- sending ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channel", "target"),
    [("77", (77, None)), ("-1001/9", (-1001, 9)), ("@tea", ("@tea", None))],
)
def test_a_channel(channel: str, target: tuple[Any, Any]) -> None:
    """A chat by its number or name, and perhaps a topic."""
    assert target_of(channel) == target


@pytest.mark.parametrize("channel", ["tea", "", "-", "77/", "--7", "77/x", "77/-1", "²", "@"])
def test_what_is_no_channel(channel: str) -> None:
    """It is refused, with the form that a channel has."""
    if channel == "77/":
        assert target_of(channel) == (77, None)
        return
    with pytest.raises(NotSent, match="CHAT/TOPIC"):
        target_of(channel)


def test_the_calls_of_a_message() -> None:
    """A short text is a file's caption; a long one, or one above several kinds, is its own."""
    pixel = Media(f"data:image/png;base64,{PIXEL}")
    page = Media("data:text/plain,page")
    choices = [Choice("Yes"), Choice("No")]
    shapes = {
        "text": outgoing(reply_to="5"),
        "caption": outgoing(attachments=[pixel], reply_to="press-5"),
        "long": outgoing("x" * 1025, attachments=[pixel], reply_to="5"),
        "album": outgoing(attachments=[pixel, pixel]),
        "mixed": outgoing(attachments=[pixel, page]),
        "buttons": outgoing(attachments=[pixel], choices=choices),
        "album with buttons": outgoing(attachments=[pixel, pixel], choices=choices),
        "file": outgoing("", attachments=[page]),
    }
    found = {
        name: [
            (len(one.text), len(one.files), bool(one.buttons), one.reply_to)
            for one in calls_of(m, 100)
        ]
        for name, m in shapes.items()
    }
    assert found == {
        "text": [(5, 0, False, 5)],
        "caption": [(5, 1, False, None)],
        "long": [(1025, 0, False, 5), (0, 1, False, None)],
        "album": [(5, 2, False, None)],
        "mixed": [(5, 0, False, None), (0, 1, False, None), (0, 1, False, None)],
        "buttons": [(5, 1, True, None)],
        "album with buttons": [(5, 0, True, None), (0, 2, False, None)],
        "file": [(0, 1, False, None)],
    }


def test_an_image_that_cannot_be_fetched_is_a_link() -> None:
    """Its address is in the text instead."""
    image = Media("https://example.org/a.png", content_type="image/png")
    (call,) = calls_of(outgoing(attachments=[image]), 100, as_links=True)
    assert (call.text, call.files) == ("hello\nhttps://example.org/a.png", [])


def caused(error: Exception, cause: Exception) -> Exception:
    """Return an error of the library as it raises it."""
    error.__cause__ = cause
    return error


ERRORS = telegram.error


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (ERRORS.BadRequest("chat not found"), NotSent),
        (ERRORS.Forbidden("bot was blocked by the user"), NotSent),
        (ERRORS.NetworkError("Request Entity Too Large"), NotSent),
        (ERRORS.InvalidToken("Unauthorized"), RetryLater),
        (ERRORS.NetworkError("Too Many Requests (429)"), RetryLater),
        (caused(ERRORS.NetworkError("x"), httpx.ConnectError("refused")), RetryLater),
        (caused(ERRORS.TimedOut(), httpx.ConnectTimeout("x")), RetryLater),
        (caused(ERRORS.TimedOut(), httpx.PoolTimeout("x")), RetryLater),
        (caused(ERRORS.TimedOut(), httpx.ReadTimeout("x")), ERRORS.TimedOut),
        (caused(ERRORS.NetworkError("x"), httpx.ReadError("x")), ERRORS.NetworkError),
        (ERRORS.NetworkError("Bad Gateway (502)"), ERRORS.NetworkError),
        (ERRORS.TelegramError("Invalid server response"), ERRORS.TelegramError),
    ],
)
def test_what_an_exception_means_for_a_message(raised: Exception, meant: type[Exception]) -> None:
    """What is neither refused nor surely unsent stays as it is: uncertain."""
    assert type(as_outcome(raised, telegram.error)) is meant


def test_a_rate_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is put off for as long as Telegram says."""
    monkeypatch.setenv("PTB_TIMEDELTA", "1")
    found = as_outcome(telegram.error.RetryAfter(40), telegram.error)
    assert isinstance(found, RetryLater)
    assert found.seconds == 40.0


# --- choices, offsets, config -------------------------------------------------------------------


def test_buttons() -> None:
    """Short ones share a row; each carries its text, or its number where that is too long."""
    long = "a label that is far too long to be carried by a button of Telegram"
    rows = buttons([Choice("Yes", "y"), Choice("No"), Choice(long)])
    assert rows == [[("Yes", "t:y"), ("No", "t:No")], [(long, "n:2")]]
    markup = {"inline_keyboard": [[{"text": long, "callback_data": "n:2"}]]}
    assert pressed("t:y", None) == "y"
    assert pressed("n:2", message(reply_markup=markup)) == long
    assert pressed("n:2", message()) is None
    with pytest.raises(NotSent, match="62 bytes"):
        buttons([Choice("Yes", "é" * 32)])


def test_the_offset_is_behind_what_is_handed_over() -> None:
    """It never passes an update that is under way, and follows Telegram's ids when they restart."""
    offsets = Offsets()
    assert offsets.offset == 0
    assert [offsets.add(one) for one in (10, 11, 12, 11)] == [True, True, True, False]
    offsets.done(11)
    assert (offsets.offset, offsets.open) == (10, 2)
    assert not offsets.add(11)  # Telegram sends it again
    offsets.done(10)
    assert offsets.offset == 12
    offsets.done(12)
    assert (offsets.offset, offsets.open) == (13, 0)
    assert not offsets.add(12)  # by a poll that was under way
    offsets.confirmed(13)
    assert offsets.add(4)  # after a quiet week ids begin anywhere
    offsets.done(4)
    assert offsets.offset == 5


@pytest.mark.parametrize("text", ["", "8443", "host:", ":80", "host:port", "host:70000"])
def test_what_cannot_be_listened_at(text: str) -> None:
    """The text has the form."""
    with pytest.raises(ValueError, match="HOST:PORT"):
        listen_of(text)


def test_addresses() -> None:
    """A webhook's address is https."""
    assert listen_of("[::1]:80") == ("::1", 80)
    check_webhook_url("https://example.org/telegram")
    check_webhook_url("http://localhost/telegram", is_telegram=False)
    with pytest.raises(ValueError, match="https"):
        check_webhook_url("http://example.org/telegram")
    with pytest.raises(ValueError, match="anybody"):
        Config(webhook_secret=False)
