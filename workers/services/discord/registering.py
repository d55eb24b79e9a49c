"""Registers the agent's actions as slash commands, where what is registered has changed.

What was registered is kept in the service's data folder, for each application. A command whose
action is gone for a short while, as when its plugin restarts, stays registered. Durations are
seconds.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from garrison.workers import Command, Runtime

from . import commands as shapes
from .files_on_disk import read_record, write_record

log = logging.getLogger(__name__)

REFRESH_S = 5.0  # between looks at the agent's actions
ABSENT_S = 600.0  # for which a command stays whose action is gone
AGAIN_S = 60.0  # before a registration that failed is tried again
WARNING = "commands"
NO_SCOPE = 50001  # "Missing Access": the bot was invited without applications.commands


class Registered(msgspec.Struct):
    """What Discord has."""

    digest: str = ""
    wanted: bool | list[str] = True  # the config's key at that time
    commands: list[Command] = []


class Commands:
    """The commands of one application.

    Args:
        runtime: The service's.
        request: Sends a request to Discord: method, path, body.
        current: Returns the agent's actions as commands.
        wanted: The config's `commands`.
    """

    def __init__(
        self,
        runtime: Runtime,
        request: Callable[[str, str, Any], Any],
        current: Callable[[], list[Command]],
        wanted: bool | list[str],
    ) -> None:
        self._runtime, self._request, self._current = runtime, request, current
        self._wanted = wanted
        self._registered = Registered()
        self._seen: dict[str, tuple[Command, float]] = {}  # by name; when it was there last
        self._path = Path()
        self._application = ""
        self._not_before = 0.0

    async def open(self, application: str) -> None:
        """Read what was registered for an application."""
        self._application = application
        self._path = self._runtime.data_folder / f"commands-{application}.json"
        found = await asyncio.to_thread(read_record, self._path, Registered)
        self._registered = found or Registered()
        now = time.monotonic()
        if self._registered.wanted == self._wanted:
            self._seen = {one.name: (one, now) for one in self._registered.commands}

    def find(self, name: str) -> Command | None:
        """Return a command by its name; None: it is not known."""
        known = {one.name: one for one in self._registered.commands}
        return known.get(name)

    async def refresh(self) -> None:
        """Register the commands if they are others than those that Discord has."""
        now = time.monotonic()
        if now < self._not_before:
            return
        commands = self._to_register(now)
        payload = shapes.payload_of(commands)
        digest = shapes.digest(payload)
        if digest == self._registered.digest or not (payload or self._registered.digest):
            return
        try:
            path = f"/applications/{self._application}/commands"
            await self._request("PUT", path, payload)
        except Exception as error:  # noqa: BLE001 (messages are answered all the same)
            self._not_before = now + AGAIN_S
            self._runtime.warn(WARNING, _problem(error))
            log.warning("discord.commands_not_registered error=%r", error)
            return
        self._runtime.warn(WARNING, None)
        log.info("discord.commands_registered count=%d", len(payload))
        self._registered = Registered(digest, self._wanted, commands)
        await asyncio.to_thread(write_record, self._path, self._registered)

    def _to_register(self, now: float) -> list[Command]:
        """Return the agent's commands, and those that were there a short while ago."""
        for command in self._current():
            self._seen[command.name] = (command, now)
        for name, (_, last) in list(self._seen.items()):
            if last + ABSENT_S < now:
                del self._seen[name]
        return [command for command, _ in self._seen.values()]


def _problem(error: Exception) -> str:
    if getattr(error, "code", None) == NO_SCOPE:
        return "commands are not registered: invite the bot with the scope applications.commands"
    return f"commands are not registered: {error}"
