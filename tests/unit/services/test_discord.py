"""The discord service's decisions: files, servers, and what the library's exceptions mean."""

import base64
from types import SimpleNamespace
from typing import Any

import aiohttp
import discord
import pytest

from garrison.workers import Media, NotSent, Outgoing, RetryLater
from garrison.workers.services.discord.config import Config, GuildConfig
from garrison.workers.services.discord.files import File, sendable
from garrison.workers.services.discord.incoming import heard, is_served
from garrison.workers.services.discord.outgoing import as_outcome, text_of

PIXEL = base64.b64encode(b"a pixel").decode()
NOWHERE: Any = SimpleNamespace(host="localhost", port=1, ssl=True)
BOT: Any = SimpleNamespace(id=7)


def error(kind: type[discord.HTTPException], status: int) -> discord.HTTPException:
    """Return an exception of the library."""
    response: Any = SimpleNamespace(status=status, reason="reason")
    return kind(response, {"code": 0, "message": "what Discord wrote"})


@pytest.mark.parametrize(
    ("raised", "meant"),
    [
        (error(discord.Forbidden, 403), NotSent),
        (error(discord.NotFound, 404), NotSent),
        (error(discord.HTTPException, 400), NotSent),
        (error(discord.HTTPException, 413), NotSent),
        (error(discord.HTTPException, 401), RetryLater),
        (error(discord.HTTPException, 429), RetryLater),
        (discord.RateLimited(40.0), RetryLater),
        (error(discord.DiscordServerError, 502), discord.DiscordServerError),
        (aiohttp.ServerDisconnectedError(), aiohttp.ServerDisconnectedError),
        (TimeoutError(), TimeoutError),
        (
            aiohttp.ClientConnectorError(NOWHERE, OSError(111, "refused")),
            RetryLater,
        ),
    ],
)
def test_what_an_exception_means_for_a_message(raised: Exception, meant: type[Exception]) -> None:
    """What is neither refused nor surely unsent stays as it is: uncertain."""
    found = as_outcome(raised, discord, aiohttp)
    assert type(found) is meant
    if isinstance(found, NotSent):
        assert "what Discord wrote" in str(found)
    if isinstance(raised, discord.RateLimited):
        assert isinstance(found, RetryLater)
        assert found.seconds == 40.0


def test_attachments_become_files_images_and_links() -> None:
    """Data is uploaded; addresses are for Discord, or its readers, to fetch."""
    found = sendable(
        [
            Media(f"data:image/png;base64,{PIXEL}", title="pixel.png"),
            Media("data:text/plain,a%20text"),
            Media("https://example.org/a.png", content_type="image/png"),
            Media("https://example.org/a.pdf", content_type="application/pdf"),
        ],
        100,
    )
    assert found.files == [File("pixel.png", b"a pixel"), File("file-2.txt", b"a text")]
    assert found.images == ["https://example.org/a.png"]
    assert found.links == ["https://example.org/a.pdf"]


@pytest.mark.parametrize(
    ("attachments", "why"),
    [
        ([Media("/etc/passwd")], "not '/etc/passwd'"),
        ([Media("file:///etc/passwd")], "http"),
        ([Media("data:image/png;base64,%%%")], "damaged"),
        ([Media("data:text/plain")], "no data"),
        ([Media(f"data:,{'x' * 101}")], "attachment_bytes is 100"),
        ([Media("data:,x")] * 11, "at most 10 files"),
    ],
)
def test_attachments_that_cannot_be_sent(attachments: list[Media], why: str) -> None:
    """No path is opened, and the reason reaches the sender."""
    with pytest.raises(NotSent, match=why):
        sendable(attachments, 100)


def test_links_are_part_of_the_text() -> None:
    """What Discord does not show is written out; the same text is found in the history again."""
    media = [Media("https://a.org/b.pdf"), Media("https://a.org/c.png", content_type="image/png")]
    sent = Outgoing("1", "n", "5", " See: ", 0, 1, None, media, 0.0, False)
    assert text_of(sent) == "See:\nhttps://a.org/b.pdf"


GUILD = SimpleNamespace(id=5, name="tests", self_role=None)


@pytest.mark.parametrize(
    ("config", "served"),
    [
        ({}, True),
        ({"guilds": ["5"]}, True),
        ({"guilds": ["tests"]}, True),
        ({"guilds": ["6"]}, False),
        ({"deny_guilds": ["tests"]}, False),
        ({"guilds": ["5"], "deny_guilds": ["5"]}, False),
    ],
)
def test_which_servers_are_served(config: dict[str, Any], served: bool) -> None:
    """Direct messages are not concerned."""
    guild: Any = GUILD
    assert is_served(guild, Config(**config)) is served
    assert is_served(None, Config(**config))


def message(**changed: Any) -> Any:
    """Return a message with the attributes that are read of the library's."""
    fields = {
        "id": 11,
        "channel": SimpleNamespace(id=3, name="general"),
        "guild": GUILD,
        "author": SimpleNamespace(id=9, display_name="Ada", bot=False),
        "clean_content": "hello",
        "jump_url": "https://discord.com/channels/5/3/11",
        "mentions": [],
        "role_mentions": [],
        "attachments": [],
        "reference": None,
        "created_at": SimpleNamespace(timestamp=lambda: 1.5e9),
    }
    return SimpleNamespace(**fields | changed)


def test_a_message_as_garrison_takes_it() -> None:
    """Its ids are the platform's own; the stream is its channel."""
    reference = SimpleNamespace(message_id=10, channel_id=3)
    found = heard(message(reference=reference, mentions=[BOT]), BOT, Config())
    assert (found.stream, found.position) == ("3", "11")
    assert found.memory.id == "11"
    assert (found.memory.room_id, found.memory.world_id, found.memory.entity_id) == ("3", "5", "9")
    assert found.memory.content.in_reply_to == "10"
    assert found.memory.content.channel_type == "GROUP"
    assert found.memory.metadata == {
        "name": "Ada",
        "bot": False,
        "own": False,
        "mentioned": True,
        "channel_name": "general",
        "guild_name": "tests",
    }


@pytest.mark.parametrize(
    ("own", "mentioned", "chosen"),
    [
        (GuildConfig(), False, True),
        (GuildConfig(channels=["#general"]), False, True),
        (GuildConfig(channels=["3"]), False, True),
        (GuildConfig(channels=["#help"]), True, False),
        (GuildConfig(mentions_only=True), False, False),
        (GuildConfig(mentions_only=True), True, True),
    ],
)
def test_a_servers_own_keys_replace_the_common_ones(
    own: GuildConfig, mentioned: bool, chosen: bool
) -> None:
    """The platform's filter follows `chosen`."""
    config = Config(channels=["#other"], guild={"5": own})
    found = heard(message(mentions=[BOT] if mentioned else []), BOT, config)
    assert found.memory.metadata["chosen"] is chosen
