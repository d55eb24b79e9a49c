"""The menu of commands at Telegram: the agent's actions; written only where it has changed."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from garrison.workers import Command

if TYPE_CHECKING:
    import telegram

log = logging.getLogger(__name__)

LOOK_S = 5.0  # between looks at the agent's actions: no request is made unless they have changed
EMPTY_S = 30.0  # without any action, before the menu is emptied: the agent may be restarted
AGAIN_S, AGAIN_MOST_S = 30.0, 600.0  # after a failure; doubled each time
COMMANDS_MOST = 100  # of one bot


class CommandMenu:
    """The commands that Telegram shows.

    Args:
        client: The library's bot.
        library: The module `telegram`.
        read: Returns the agent's actions, as far as they are known now.
    """

    def __init__(
        self, client: "telegram.Bot", library: Any, read: Callable[[], list[Command]]
    ) -> None:
        self._client, self._library, self._read = client, library, read
        self._commands: dict[str, Command] = {}
        self._shown: list[tuple[str, str]] | None = None  # at Telegram; None: not known
        self._is_ours = False  # this process has written the menu
        self._known_at = time.monotonic()  # when there was an action last

    def known(self) -> dict[str, Command]:
        """Return the commands, by name; those that were known last while the agent is away."""
        found, now = self._read()[:COMMANDS_MOST], time.monotonic()
        if found:
            self._known_at = now
        if found or now - self._known_at > EMPTY_S:
            self._commands = {one.name: one for one in found}
        return self._commands

    async def follow(self) -> None:
        """Show the agent's actions, now and whenever they have changed."""
        wait = AGAIN_S
        while True:
            try:
                await self._show()
            except self._library.error.TelegramError as error:
                log.warning("telegram.commands_not_shown error=%s wait_s=%g", error, wait)
                await asyncio.sleep(wait)
                wait = min(wait * 2, AGAIN_MOST_S)
            else:
                wait = AGAIN_S
                await asyncio.sleep(LOOK_S)

    async def _show(self) -> None:
        known = self.known()
        if not known and time.monotonic() - self._known_at <= EMPTY_S:
            return
        wanted = [(one.name, one.description) for one in known.values()]
        if self._shown is None:
            there = await self._client.get_my_commands()
            self._shown = [(one.command, one.description) for one in there]
        if wanted == self._shown or not (wanted or self._is_ours):
            return  # what its owner has set at @BotFather is not emptied
        await self._client.set_my_commands(
            [self._library.BotCommand(name, about) for name, about in wanted]
        )
        self._shown, self._is_ours = wanted, True
        log.info("telegram.commands_shown count=%d", len(wanted))
