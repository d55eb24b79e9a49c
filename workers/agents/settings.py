"""The settings of a service: its agent's character, its secrets, its environment."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

from garrison.ipc.character import Character, default_character, setting_of

log = logging.getLogger(__name__)


class Settings:
    """The settings that one service may read.

    Args:
        name: NAME of the service.
        secrets: Its own secrets.
        agent: NAME of its agent; empty for none.
        character: The agent's character; None is the default one.
        withheld: Keys of the character's secrets that the service was not granted.
    """

    def __init__(
        self,
        name: str,
        secrets: Mapping[str, str] | None = None,
        *,
        agent: str = "",
        character: Character | None = None,
        withheld: Iterable[str] = (),
    ) -> None:
        self._name, self._agent = name, agent
        self._secrets = dict(secrets or {})
        self.character = character if character is not None else default_character()
        self._withheld = set(withheld)

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting; see `Runtime.get_setting`."""
        if (found := setting_of(self.character, key)) is not None:
            return found
        if key in self._secrets:
            return self._secrets[key]
        if key in self._withheld:
            self._withheld.discard(key)  # one warning for each key
            self._warn_withheld(key)
        return os.environ.get(key, default)

    def _warn_withheld(self, key: str) -> None:
        section = f"services.{self._name}"
        if self._agent:
            section = f"agents.{self._agent}.services.{self._name.removeprefix(f'{self._agent}.')}"
        log.warning(
            "setting.withheld %s is a secret of %s's character that this service is not granted; "
            'add secrets = ["%s"] to [%s] in the config',
            *(key, self.character.name, key, section),
        )
