"""The settings of the hooks service, as the host's config has them under `[hooks.NAME]`."""

from typing import Any

import msgspec


class Hook(msgspec.Struct, kw_only=True):
    """One hook. Durations are seconds."""

    on: list[str]
    services: list[str] = []  # NAMEs and patterns; empty: all
    command: list[str] = []
    webhook: str = ""
    secret: str = ""  # name of the variable that has it
    call: str = ""
    arguments: dict[str, Any] = msgspec.field(default={}, name="with")
    secrets: list[str] = []  # names of the variables that the command gets
    every: float = 60.0
    timeout: float = 10.0

    @property
    def all_secrets(self) -> list[str]:
        """Return the names of the variables that have its secrets."""
        of_address = [self.webhook[1:]] if self.webhook.startswith("$") else []
        return [*filter(None, (self.secret,)), *self.secrets, *of_address]

    @property
    def way(self) -> str:
        """Return how it is delivered, in words."""
        if self.command:
            return f"command {self.command[0]}"
        return "webhook" if self.webhook else f"call {self.call}"


class HooksConfig(msgspec.Struct):
    """`[services.hooks.config]`; the host writes it from `[hooks.NAME]`."""

    hooks: dict[str, Hook] = {}
