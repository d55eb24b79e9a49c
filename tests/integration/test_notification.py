"""A notification reaches Discord, Telegram and X, by their bundled services."""

import base64
import os
from collections.abc import Iterator

import pytest
from tests.support.discord_client import DiscordBridge, discord_bridge
from tests.support.host import Host, found, hosting
from tests.support.telegram_client import TelegramServer, telegram_server
from tests.support.waiting import until
from tests.support.x_client import TOKENS, XServer, x_server

from garrison.ipc import NotSent
from garrison.workers import Media

pytestmark = pytest.mark.external

CHAT = "77"
CONFIG = """
[plugins]
discord = {{}}
telegram = {{}}
twitter = {{}}
notification = {{}}
[services.discord]
secrets = ["DISCORD_TOKEN"]
[services.discord.config]
base_url = "{discord}"
[services.telegram]
secrets = ["TELEGRAM_BOT_TOKEN"]
[services.telegram.config]
base_url = "{telegram}"
[services.twitter]
secrets = {tokens}
[services.twitter.config]
base_url = "{x}"
[services.notification.config]
targets = {{ discord = "{channel}", telegram = "{chat}", twitter = "timeline" }}
"""
PICTURE = base64.b64encode(b"a picture").decode()


@pytest.fixture(scope="module")
def places() -> Iterator[tuple[DiscordBridge, TelegramServer, XServer]]:
    """Run the three places."""
    with discord_bridge("general") as discord, telegram_server() as telegram, x_server() as x:
        yield discord, telegram, x


@pytest.fixture(scope="module")
def running(places: tuple[DiscordBridge, TelegramServer, XServer]) -> Iterator[Host]:
    """Run the services; all are connected."""
    discord, telegram, x = places
    text = CONFIG.format(
        discord=discord.url,
        telegram=telegram.url,
        x=x.url,
        tokens=list(TOKENS),
        channel=discord.channels["general"],
        chat=CHAT,
    )
    env = {
        "DISCORD_TOKEN": f"token-{os.getpid()}",
        "TELEGRAM_BOT_TOKEN": f"{os.getpid()}:token",
        **TOKENS,
    }
    with hosting("", [], {"config.toml": text}, env, up=False) as host:
        host.up()
        names = ("discord", "telegram", "twitter")
        until(lambda: all(host.status(name)["state"] == "running" for name in names))
        yield host


async def test_all_targets_get_a_text_and_its_picture(
    running: Host, places: tuple[DiscordBridge, TelegramServer, XServer]
) -> None:
    """Once each, whatever the platform calls a channel."""
    discord, telegram, x = places
    media = Media(f"data:image/png;base64,{PICTURE}", title="fire.png")
    async with running.connect() as client:
        service = found(client, "notification")
        assert await service.notify("All is well") == ["discord", "telegram", "twitter"]
        done = await service.notify("Fire", attachments=[media])
        assert done == ["discord", "telegram", "twitter"]
    for place in places:
        assert [one for one in place.answers() if "well" in one] == ["All is well"]
    (shown,) = [one for one in discord.read() if one.text == "Fire"]
    assert shown.files == ["fire.png"]
    (post,) = [one for one in x.read() if one.text == "Fire"]
    assert [x.counted["uploads"][key] for key in post.files] == [["image/png", 9]]
    assert x.counted["violations"] == []
    assert [one for one in telegram.read() if one.bot and one.files]


async def test_a_target_that_fails_does_not_concern_the_others(
    running: Host, places: tuple[DiscordBridge, TelegramServer, XServer]
) -> None:
    """It is left out of the result; called by its name, its error is the call's."""
    _, _, x = places
    media = Media("data:text/plain,a%20note", title="note.txt")  # X takes none
    async with running.connect() as client:
        service = found(client, "notification")
        assert await service.notify("A note", attachments=[media]) == ["discord", "telegram"]
        with pytest.raises(NotSent, match="images and films"):
            await service.notify("A note", "twitter", attachments=[media])
    assert "A note" not in x.answers()
