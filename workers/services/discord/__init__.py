"""The discord service: a bot of Discord, by discord.py. Each message gets one answer."""

import io
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Self

from garrison.workers import (
    EventType,
    Heard,
    NotSent,
    Outgoing,
    Platform,
    Plugin,
    Runtime,
    idempotent,
    load_library,
)

from . import config as keys
from .buttons import view
from .connection import PORTAL, Connection
from .events import Events
from .files import FILES_MOST, sendable
from .incoming import COMMAND, heard
from .interaction_store import InteractionStore
from .interactions import Interactions
from .missed import missed
from .outgoing import as_outcome, is_sent, reference_of, text_of
from .registering import REFRESH_S, Commands

if TYPE_CHECKING:
    import discord

REQUIREMENT = "discord.py>=2.7"
LENGTH_MOST = 2000  # of a message
LOOKED_AT = 200  # newest messages of a channel, for one that may have been sent
SLACK_S = 60.0  # between Discord's clock and this one
SWEEP_S = 60.0  # between deletions of interactions that are over


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
    _interactions: Interactions
    _store: InteractionStore
    _commands: Commands
    _connection: Connection

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service._library = load_library("discord", REQUIREMENT)
        service._http = load_library("aiohttp", REQUIREMENT)
        service._connection = Connection(runtime, service.config, service._library)
        service.client = service._connection.client
        service._store = InteractionStore(runtime.data_folder / "interactions")
        service._commands = Commands(
            runtime, service._connection.request, service.commands, service.config.commands
        )
        service._interactions = Interactions(
            service.client,
            service._library,
            service._store,
            service._commands,
            service.receive,
            service.config,
        )
        await service._open()
        return service

    async def _open(self) -> None:
        """Connect, and take up what an earlier process left."""
        left = await self._store.open()
        application = await self._connection.log_in()
        await self._commands.open(application)
        Events(
            self.client,
            self.runtime,
            self.config,
            self._interactions,
            self.receive,
            self._note_event,
        ).listen()
        self.runtime.register_event(EventType.RUN_ENDED, self._run_ended)
        await self._connection.open(self.disconnected)
        self.spawn(self._interactions.recover(left), "interactions", False)
        self.spawn(self._commands.refresh(), "commands", False)
        self.every(REFRESH_S, self._commands.refresh, while_paused=True)
        self.every(SWEEP_S, self._store.drop_old, while_paused=True)

    def _note_event(self) -> None:
        self._connection.note_event()
        self.note_traffic()

    async def stop(self) -> None:
        """Close the connection."""
        await self._connection.close()

    @property
    def _user(self) -> "discord.ClientUser":
        user = self.client.user
        assert user is not None  # there are no messages before the login
        return user

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        async for message in missed(self.client, self._library, since, self.config):
            yield heard(message, self._user, self.config)

    async def _run_ended(self, run: dict[str, Any]) -> None:
        """End the waiting of a command that was run and had nothing to say."""
        name, _, rest = str(run.get("message", "")).partition("/")
        id = rest.rpartition("/")[2]
        is_silent = not (run.get("responses") or run.get("error"))
        if is_silent and name == self.runtime.name and id.startswith(COMMAND):
            text = self.config.done_text
            await self._interactions.end_without_answer(id.removeprefix(COMMAND), text)

    # --- sending ----------------------------------------------------------------------------

    async def deliver(self, m: Outgoing) -> str:
        try:
            responded = await self._interactions.respond(m, lambda: self._message(m))
            return responded or await self._send(m)
        except Exception as error:
            meant = as_outcome(error, self._library, self._http)
            if meant is error:
                raise
            raise meant from error

    async def _send(self, m: Outgoing) -> str:
        message, refers_to = self._message(m), reference_of(m)
        if refers_to:
            message["reference"] = self._library.MessageReference(
                message_id=int(refers_to), channel_id=int(m.channel), fail_if_not_exists=False
            )
        sent = await self._channel(m.channel).send(**message, nonce=m.nonce)
        return str(sent.id)

    def _message(self, m: Outgoing) -> dict[str, Any]:
        library, parts = self._library, sendable(m.attachments, self.config.attachment_bytes)
        message: dict[str, Any] = {"content": text_of(m)}
        if parts.files:
            message["files"] = [library.File(io.BytesIO(one.data), one.name) for one in parts.files]
        if parts.images:
            message["embeds"] = [
                library.Embed().set_image(url=url) for url in parts.images[:FILES_MOST]
            ]
        if m.choices:
            message["view"] = view(m.choices, library)
        return message

    async def was_delivered(self, m: Outgoing) -> str | None:
        found, is_certain = await self._interactions.find_response(m, text_of(m))
        if is_certain:
            return found
        earliest = m.began - SLACK_S
        if m.answers.startswith(COMMAND):  # its response is as old as the command
            command = int(m.answers.removeprefix(COMMAND))
            created: float = self._library.utils.snowflake_time(command).timestamp()
            earliest = min(earliest, created)
        async for sent in self._channel(m.channel).history(limit=LOOKED_AT):  # the newest first
            if sent.created_at.timestamp() < earliest:
                break
            if sent.author.id == self._user.id and is_sent(sent, m):
                return str(sent.id)
        return None

    async def typing(self, channel: str) -> None:
        await self._channel(channel).typing()

    @idempotent
    async def add_reaction(self, channel: str, message: str, emoji: str) -> None:
        """React to a message.

        Args:
            channel: Its channel.
            message: Discord's id of it.
            emoji: A character, or `name:id` for one of a server.

        Raises:
            NotSent: Discord refuses it.
        """
        try:
            there = self._channel(channel).get_partial_message(int(message))
            await there.add_reaction(emoji)
        except (self._library.HTTPException, ValueError) as error:
            raise NotSent(f"Discord did not take the reaction {emoji!r:.40}: {error}") from error

    async def direct_channel(self, person: str) -> str:
        try:
            channel = await self.client.create_dm(self._library.Object(int(person)))
        except (self._library.HTTPException, ValueError) as error:
            raise NotSent(
                f"{person!r:.40} cannot be written to: {error}. A person's id at Discord is a "
                "number; Copy User ID shows it"
            ) from error
        return str(channel.id)

    def _channel(self, channel: str) -> "discord.PartialMessageable":
        if not channel.isdigit():
            raise NotSent(f"a channel of Discord is a number, not {channel!r:.60}")
        return self.client.get_partial_messageable(int(channel))

    # --- the connection, and what is kept of persons -----------------------------------------

    async def probe(self) -> None:
        await self._connection.probe()

    async def health(self) -> bool:
        """Return True: the library reconnects by itself, and `status` shows where it cannot."""
        self._connection.report()
        return True

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Delete a person's interactions of the last minutes, and what every platform has."""
        erased: dict[str, int] = await super().forget_person(source, person)
        mine = self._of_person(source, person)
        for record in mine:
            await self._store.drop(record.id)
        return erased | ({"interactions": len(mine)} if mine else {})

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the same rows."""
        async for row in super().export_person(source, person):
            yield row
        for record in self._of_person(source, person):
            content = record.memory.content
            about = {"text": content.text, "actions": content.actions, "data": content.data}
            yield {"store": "interactions", "id": record.id, "at": record.at, **about}

    def _of_person(self, source: str, person: str) -> list[Any]:
        if source != self.runtime.name:
            return []
        return [one for one in self._store.all() if one.memory.entity_id == person]


plugin = Plugin(name="discord", services=[DiscordService], preload=["discord"])
