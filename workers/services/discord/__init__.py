"""The discord service: a bot of Discord, by discord.py. Each message gets one answer."""

import io
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self

from garrison.workers import Heard, NotSent, Outgoing, Platform, Plugin, Runtime

from ..model_support.library import load_library
from . import config as keys
from .connection import PORTAL, Connection
from .files import FILES_MOST, sendable
from .incoming import heard, is_served
from .missed import missed
from .outgoing import as_outcome

if TYPE_CHECKING:
    import discord

REQUIREMENT = "discord.py>=2.7"
LENGTH_MOST = 2000  # of a message
LOOKED_AT = 200  # newest messages of a channel, for one that may have been sent
SLACK_S = 60.0  # between Discord's clock and this one


class DiscordService(Platform):
    """A bot of Discord."""

    service_type = "discord"
    capability_description = "A bot of Discord: reads and writes messages in channels and threads"
    credential = "DISCORD_TOKEN"
    secrets = {"DISCORD_TOKEN": f"{PORTAL}, under Bot"}
    max_length = LENGTH_MOST

    class Config(keys.Config):
        """`[services.discord.config]`."""

    config: Config
    client: "discord.Client"

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._library = load_library("discord", REQUIREMENT)
        service._http = load_library("aiohttp", REQUIREMENT)
        service._connection = Connection(runtime, service.config, service._library)
        service.client = service._connection.client
        service._listen()
        await service._connection.open()
        return service

    async def stop(self) -> None:
        """Close the connection."""
        await self._connection.close()

    # --- receiving --------------------------------------------------------------------------

    def _listen(self) -> None:
        """Register the library's handlers; the library calls each by its name."""

        async def on_message(message: "discord.Message") -> None:
            await self._receive(heard(message, self._user, self.config), message.guild)

        async def on_raw_message_edit(payload: "discord.RawMessageUpdateEvent") -> None:
            message = payload.message
            if message.edited_at is not None:  # else a preview was added, or a pin
                found = heard(message, self._user, self.config)
                found.memory.metadata["edited"] = True
                await self._receive(Heard(found.memory), message.guild)

        async def on_raw_message_delete(payload: "discord.RawMessageDeleteEvent") -> None:
            about = {"room_id": str(payload.channel_id), "id": str(payload.message_id)}
            await self.runtime.emit_event("MESSAGE_DELETED", {"source": self.runtime.name} | about)

        async def on_raw_reaction_add(payload: "discord.RawReactionActionEvent") -> None:
            await self._reacted("REACTION_RECEIVED", payload)

        async def on_raw_reaction_remove(payload: "discord.RawReactionActionEvent") -> None:
            await self._reacted("REACTION_REMOVED", payload)

        for handler in (
            on_message,
            on_raw_message_edit,
            on_raw_message_delete,
            on_raw_reaction_add,
            on_raw_reaction_remove,
        ):
            setattr(self.client, handler.__name__, handler)

    @property
    def _user(self) -> "discord.ClientUser":
        user = self.client.user
        assert user is not None  # there are no messages before the login
        return user

    async def _receive(self, found: Heard, guild: "discord.Guild | None") -> None:
        if is_served(guild, self.config):
            await self.receive(found.memory, found.stream, found.position)

    async def _reacted(self, event: str, payload: "discord.RawReactionActionEvent") -> None:
        if payload.user_id == self._user.id:
            return
        about = {
            "source": self.runtime.name,
            "room_id": str(payload.channel_id),
            "id": str(payload.message_id),
            "entity_id": str(payload.user_id),
            "emoji": str(payload.emoji),
        }
        await self.runtime.emit_event(event, about)

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        async for message in missed(self.client, self._library, since, self.config):
            yield heard(message, self._user, self.config)

    # --- sending ----------------------------------------------------------------------------

    async def deliver(self, m: Outgoing) -> str:
        try:
            sent = await self._channel(m.channel).send(**self._message(m))
        except Exception as error:
            meant = as_outcome(error, self._library, self._http)
            if meant is error:
                raise
            raise meant from error
        return str(sent.id)

    def _message(self, m: Outgoing) -> dict[str, Any]:
        library, parts = self._library, sendable(m.attachments, self.config.attachment_bytes)
        message: dict[str, Any] = {"content": text_of(m), "nonce": m.nonce}
        if m.reply_to:
            message["reference"] = library.MessageReference(
                message_id=int(m.reply_to), channel_id=int(m.channel), fail_if_not_exists=False
            )
        if parts.files:
            message["files"] = [library.File(io.BytesIO(one.data), one.name) for one in parts.files]
        if parts.images:
            message["embeds"] = [
                library.Embed().set_image(url=url) for url in parts.images[:FILES_MOST]
            ]
        return message

    async def was_delivered(self, m: Outgoing) -> str | None:
        text = text_of(m)
        async for sent in self._channel(m.channel).history(limit=LOOKED_AT):  # the newest first
            if sent.created_at.timestamp() < m.began - SLACK_S:
                break
            if sent.author.id != self._user.id:
                continue
            reply_to = str(sent.reference.message_id) if sent.reference else None
            if sent.nonce == m.nonce or (sent.content == text and reply_to == m.reply_to):
                return str(sent.id)
        return None

    async def typing(self, channel: str) -> None:
        await self._channel(channel).typing()

    def _channel(self, channel: str) -> "discord.PartialMessageable":
        if not channel.isdigit():
            raise NotSent(f"a channel of Discord is a number, not {channel!r:.60}")
        return self.client.get_partial_messageable(int(channel))

    async def health(self) -> bool:
        """Return True: the library reconnects by itself, and `status` shows where it cannot."""
        self._connection.report()
        return True


def text_of(m: Outgoing) -> str:
    """Return the text of a message, with the addresses of what cannot be shown."""
    links = [one.url for one in m.attachments if one.url.startswith(("http://", "https://"))]
    shown = [one.url for one in m.attachments if one.content_type.startswith("image/")]
    return "\n".join([m.text.strip(), *(url for url in links if url not in shown)]).strip()


plugin = Plugin(name="discord", services=[DiscordService], preload=["discord"])
