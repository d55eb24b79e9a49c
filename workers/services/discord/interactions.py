"""Commands and presses of buttons: acknowledged in time, handed over, and answered once.

Discord wants an answer within 3 s, so an interaction is acknowledged as soon as it is on disk. A
command's answer is written into the response that this created, which any process can repeat:
editing it twice leaves one message. Seconds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from garrison.workers import Outgoing, RetryLater

from .buttons import chosen_text, disabled
from .config import Config
from .incoming import COMMAND, chosen, commanded, is_served, is_wanted
from .interaction_store import InteractionStore, Record
from .registering import Commands

if TYPE_CHECKING:
    import discord

log = logging.getLogger(__name__)

SAVE_S = 1.0  # for the file: later, the interaction is acknowledged without it
ACKNOWLEDGE_S = 3.0  # Discord's own limit
AGAIN_S = 5.0
NOT_HERE = "I do not answer here."
UNKNOWN = "I do not know this command any more."
ORIGINAL: Any = "@original"  # in place of a message's id
INVALID_TOKEN = 50027  # Discord's code for a token of an interaction whose time is over

Receive = Callable[[Any], Awaitable[None]]


class Interactions:
    """The interactions of one bot.

    Args:
        client: The library's.
        library: The module `discord`.
        store: Where they are kept.
        commands: Those that are registered.
        receive: Hands a memory over.
        config: The service's.
    """

    def __init__(
        self,
        client: "discord.Client",
        library: Any,
        store: InteractionStore,
        commands: Commands,
        receive: Receive,
        config: Config,
    ) -> None:
        self._client, self._library, self._store = client, library, store
        self._commands, self._receive, self._config = commands, receive, config

    # --- receiving --------------------------------------------------------------------------

    async def handle(self, interaction: "discord.Interaction") -> None:
        """Take what a person has done; anything but a command or a press is ignored."""
        kinds, bot = self._library.InteractionType, self._client.user
        data: Any = interaction.data
        if not is_served(interaction.guild, self._config) or bot is None:
            return
        if interaction.type == kinds.application_command:
            command = self._commands.find(data["name"])
            if command is None:
                await self._refuse(interaction, UNKNOWN)
                return
            await self._take(interaction, commanded(interaction, command, bot, self._config))
        elif interaction.type == kinds.component and interaction.message is not None:
            text = chosen_text(interaction.message, data["custom_id"])
            if text:
                await self._take(interaction, chosen(interaction, text, bot, self._config))

    async def _take(self, interaction: "discord.Interaction", memory: Any) -> None:
        """Save an interaction, acknowledge it, and hand it over, in this order."""
        if not is_wanted(memory, self._config):
            await self._refuse(interaction, NOT_HERE)
            return
        data: Any = interaction.data
        record = Record(
            str(interaction.id),
            interaction.token,
            str(interaction.application_id),
            self._store.now(),
            memory,
            str(interaction.message.id) if interaction.message else "",
            data.get("custom_id", ""),
        )
        saving = asyncio.ensure_future(self._store.save(record))
        done, _ = await asyncio.wait({saving}, timeout=SAVE_S)
        await self._acknowledge(interaction, record)
        if not done:
            await asyncio.wait({saving})
        if error := saving.exception():
            log.warning("discord.interaction_not_saved id=%s error=%s", record.id, error)
        await self._receive(self._first(record).memory)

    def _first(self, record: Record) -> Record:
        """Return the first press of a message's buttons, whichever was acknowledged first: it alone
        counts, as is shown. Of a command return itself."""
        presses = [one for one in self._store.all() if record.message == one.message != ""]
        return min(presses, key=lambda one: one.at, default=record)

    async def _acknowledge(self, interaction: "discord.Interaction", record: Record) -> None:
        """Acknowledge an interaction; a failure is no reason to leave it unanswered."""
        try:
            async with asyncio.timeout(ACKNOWLEDGE_S):
                if record.message:
                    await self._show_choice(interaction, record)
                else:
                    await interaction.response.defer(thinking=True)
        except Exception as error:  # noqa: BLE001 (too late, or an outage of Discord)
            log.warning("discord.not_acknowledged id=%s error=%r", record.id, error)

    async def _show_choice(self, interaction: "discord.Interaction", record: Record) -> None:
        """Disable a message's buttons, and show which one was pressed first."""
        assert interaction.message is not None
        pressed = self._first(record).custom_id
        buttons = disabled(interaction.message, pressed, self._library)
        await interaction.response.edit_message(view=buttons)

    async def _refuse(self, interaction: "discord.Interaction", text: str) -> None:
        await interaction.response.send_message(text, ephemeral=True)

    async def recover(self, records: list[Record]) -> None:
        """Hand over again what an earlier process has taken; what was handed over stays one."""
        for record in records:
            if record.message:
                await self._disable(record)
            await self._receive(record.memory)

    async def _disable(self, record: Record) -> None:
        try:
            channel = self._client.get_partial_messageable(int(record.memory.room_id))
            message = await channel.fetch_message(int(record.message))
            if any(not one.disabled for row in message.components for one in row.children):  # type: ignore[union-attr]
                await message.edit(view=disabled(message, record.custom_id, self._library))
        except self._library.HTTPException as error:
            log.warning("discord.buttons_not_disabled id=%s error=%s", record.id, error)

    # --- answering --------------------------------------------------------------------------

    async def respond(self, m: Outgoing, message: Callable[[], dict[str, Any]]) -> str | None:
        """Write an answer into the response of its command.

        Args:
            m: The first part of the first answer of a command gets there.
            message: Returns what the library is to send.

        Returns:
            The message's id; None: this goes to the channel as any other message.

        Raises:
            RetryLater: The claim cannot be written; nothing was sent.
            Exception: Of the library.
        """
        record = self._record_of(m)
        if record is None or record.claimed not in {"", m.id} or m.part:
            return None
        if not record.claimed:
            record.claimed = m.id
            try:
                await self._store.save(record)
            except OSError as error:
                record.claimed = ""
                raise RetryLater(AGAIN_S, f"the claim cannot be written: {error}") from error
        shown = {"attachments" if key == "files" else key: one for key, one in message().items()}
        try:
            sent = await self._response(record).edit_message(ORIGINAL, **shown)
        except self._library.HTTPException as error:
            if not self._is_gone(error):
                raise
            log.info("discord.no_response id=%s error=%s", record.id, error)
            record.is_over = True
            return None
        return str(sent.id)

    async def find_response(self, m: Outgoing, text: str) -> tuple[str | None, bool]:
        """Return the id of the response that has an answer's text, and whether that is certain."""
        record = self._record_of(m)
        if record is None or record.claimed != m.id:
            return None, False
        try:
            sent = await self._response(record).fetch_message(ORIGINAL)
        except self._library.HTTPException as error:
            if not self._is_gone(error):
                raise
            record.is_over = True
            return None, False
        is_there = sent.content == text and not sent.flags.loading
        return (str(sent.id) if is_there else None), True

    async def end_without_answer(self, id: str, text: str) -> None:
        """End the waiting that a command shows whose action had nothing to say."""
        record = self._store.find(id)
        if record is None or record.claimed or not record.is_open:
            return
        try:
            if text:
                await self._response(record).edit_message(ORIGINAL, content=text)
            else:
                await self._response(record).delete_message(ORIGINAL)
        except Exception as error:  # noqa: BLE001 (Discord itself ends it)
            log.warning("discord.not_ended id=%s error=%r", id, error)

    def _record_of(self, m: Outgoing) -> Record | None:
        record = self._store.find(m.answers.removeprefix(COMMAND))
        return record if record is not None and record.is_open else None

    def _response(self, record: Record) -> "discord.Webhook":
        made: discord.Webhook = self._library.Webhook.partial(
            int(record.application), record.token, client=self._client
        )
        return made

    def _is_gone(self, error: Any) -> bool:
        return bool(error.status == 404 or error.code == INVALID_TOKEN)
