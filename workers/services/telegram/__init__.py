"""The telegram service: a bot of Telegram, by python-telegram-bot. Each message gets one answer."""

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, Any, Self

from garrison.workers import Busy, Memory, Outgoing, Platform, Plugin, Runtime, load_library

from . import config as keys
from .choices import pressed
from .commands import CommandMenu
from .connection import BOT_FATHER, Connection
from .fetching import Fetcher
from .files import files_of
from .incoming import Bot, command_of, memory_of, press_of, reactions_of
from .lanes import Lanes
from .outgoing import target_of
from .polling import Poller
from .sender import Sender
from .webhook import CONNECTIONS, Webhook

if TYPE_CHECKING:
    import telegram

log = logging.getLogger(__name__)

REQUIREMENT = "python-telegram-bot>=22.8"
WEBHOOK_REQUIREMENT = "aiohttp>=3.11"
LENGTH_MOST = 4096  # of a message, in UTF-16 units
BUSY_S, BUSY_MOST_S = 0.2, 5.0  # before a message is handed over again; doubled each time
TYPING_S = 4.0


class TelegramService(Platform):
    """A bot of Telegram."""

    service_type = "telegram"
    capability_description = "A bot of Telegram: reads and writes messages in chats and topics"
    credential = "TELEGRAM_BOT_TOKEN"
    secrets = {"TELEGRAM_BOT_TOKEN": BOT_FATHER}
    max_length = LENGTH_MOST

    class Config(keys.Config):
        """`[services.telegram.config]`."""

    config: Config
    _connection: Connection
    _fetcher: Fetcher
    _sender: Sender
    _lanes: Lanes
    _menu: CommandMenu
    _webhook: Webhook | None
    _oldest: float  # Unix time before which a message is too old
    _old: int  # messages that were

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        config, library = service.config, load_library("telegram", REQUIREMENT)
        request = load_library("telegram.request", REQUIREMENT)
        http = load_library("httpx", REQUIREMENT)
        service._oldest, service._old = _oldest(config.catch_up), 0
        connection = service._connection = Connection(runtime, config, library, request, http)
        service._fetcher = Fetcher(runtime, config, connection, http)
        service._sender = Sender(connection.client, library, config)
        service._lanes = Lanes(service._handle, runtime.spawn)
        service._menu = CommandMenu(connection.client, library, service.commands)
        service._webhook = None
        try:
            await connection.open()
            await service._begin(library)
        except BaseException:
            await service.stop()
            raise
        return service

    async def _begin(self, library: Any) -> None:
        """Have updates come, and the menu of commands follow the agent's actions."""
        runtime, config, connection = self.runtime, self.config, self._connection
        if config.mode == "polling":
            await connection.choose_polling()
            poller = Poller(
                runtime, config, connection, library, self._lanes, self.note_traffic, self._link
            )
            runtime.spawn(poller.run(), "polling")
        else:
            http = load_library("aiohttp.web", WEBHOOK_REQUIREMENT)
            self._webhook = Webhook(
                config,
                connection.secret,
                library,
                connection.client,
                http,
                self._lanes,
                self.note_traffic,
            )
            await self._webhook.open()
            await connection.choose_webhook(CONNECTIONS)
        runtime.spawn(self._menu.follow(), "commands")

    async def stop(self) -> None:
        """Close the connections."""
        if self._webhook is not None:
            await self._webhook.close()
        await self._connection.close()

    def _link(self, problem: str) -> None:
        """Note that nothing is received any more, or that it is again."""
        if problem:
            self.disconnected(problem)
        else:
            self.connected()

    # --- receiving --------------------------------------------------------------------------

    async def _handle(self, update: "telegram.Update") -> None:
        """Hand an update over; return when it is on disk."""
        if update.callback_query is not None:
            await self._press(update.callback_query)
            return
        if update.message_reaction is not None:
            for event, about in reactions_of(update.message_reaction):
                await self.runtime.emit_event(event, {"source": self.runtime.name} | about)
            return
        message, edited = update.message, update.edited_message
        if self.config.channel_posts:
            message = message or update.channel_post
            edited = edited or update.edited_channel_post
        if message is not None:
            await self._message(message)
        elif edited is not None:
            await self._edit(edited)

    async def _message(self, message: "telegram.Message") -> None:
        if message.date.timestamp() < self._oldest:
            self._old += 1
            return
        memory = command_of(memory_of(message, self._bot), self._bot, self._menu.known())
        if memory is None:
            return  # it is for another bot
        await self._add_files(message, memory)
        if memory.content.text or memory.content.attachments or memory.content.actions:
            await self._hand_over(memory)

    async def _edit(self, message: "telegram.Message") -> None:
        memory = memory_of(message, self._bot)
        memory.metadata["edited"] = True
        await self._add_files(message, memory)
        await self._hand_over(memory)

    async def _add_files(self, message: "telegram.Message", memory: Memory) -> None:
        content = memory.content
        for file in files_of(message, self.config.fetch_bytes):
            media, spoken = await self._fetcher.take(file)
            content.attachments.append(media)
            if spoken:
                content.text = "\n".join(filter(None, [content.text, spoken]))
                memory.metadata["transcribed"] = True

    async def _press(self, query: "telegram.CallbackQuery") -> None:
        """Hand over what a button stands for, then have Telegram take the buttons away."""
        text = pressed(query.data or "", query.message)
        memory = press_of(query, text, time.time()) if text else None
        if memory is not None:
            await self._hand_over(memory)
        self.runtime.spawn(self._acknowledge(query), "press", False)

    async def _acknowledge(self, query: "telegram.CallbackQuery") -> None:
        client, message = self._connection.client, query.message
        try:
            await client.answer_callback_query(query.id)
            if message is not None:
                await client.edit_message_reply_markup(message.chat.id, message.message_id)
        except self._connection.errors.TelegramError as error:
            log.info("telegram.press_not_acknowledged error=%s", error)  # it may be too old

    async def _hand_over(self, memory: Memory) -> None:
        """Hand a message over; while too many wait, later ones of its chat wait as well."""
        wait = BUSY_S
        while True:
            try:
                await self.receive(memory)
            except Busy as error:
                log.warning("telegram.busy message=%s error=%s wait_s=%g", memory.id, error, wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, BUSY_MOST_S)
            else:
                return

    @property
    def _bot(self) -> Bot:
        return self._connection.bot

    # --- sending ----------------------------------------------------------------------------

    async def deliver(self, m: Outgoing) -> str:
        return await self._sender.send(m)

    async def typing(self, channel: str) -> None:
        target = target_of(channel)
        await self._connection.client.send_chat_action(
            target.chat, "typing", message_thread_id=target.topic, read_timeout=TYPING_S
        )

    async def fetch_file(self, file: str) -> bytes:
        """Return the content of a file that a message had.

        Args:
            file: `Media.id` of it, or its address `telegram:ID`.

        Raises:
            NotSent: Telegram does not have it any more, or it is larger than 20 MiB.
        """
        return await self._fetcher.data(file.removeprefix("telegram:"), keys.FETCH_MOST)

    # --- what is shown ----------------------------------------------------------------------

    async def probe(self) -> None:
        await self._connection.probe()

    async def health(self) -> bool:
        """Return True: an outage of Telegram is not repaired by a restart."""
        facts = {"under_way": float(len(self._lanes))}
        facts |= {"unreadable": float(self._lanes.failed)} if self._lanes.failed else {}
        facts |= {"too_old": float(self._old)} if self._old else {}
        if self._webhook is not None and self._webhook.refused:
            facts["refused_requests"] = float(self._webhook.refused)
        self.runtime.report(**facts)
        return True


def _oldest(catch_up: bool | float) -> float:
    """Return the Unix time before which a message is too old; 0.0: none is.

    Telegram's times are whole seconds.
    """
    return 0.0 if catch_up is True else math.floor(time.time() - float(catch_up))


plugin = Plugin(
    name="telegram",
    services=[TelegramService],
    preload=["garrison.workers.services.telegram", "garrison.workers.services.telegram.warm"],
)
