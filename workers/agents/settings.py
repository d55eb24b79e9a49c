"""The settings of a service: its agent's character, its secrets, its environment."""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

import msgspec

from garrison.ipc.character import Character, default_character, setting_of
from garrison.ipc.messages import NIL, Assignment

log = logging.getLogger(__name__)

# Made here, in the process that workers are forked from: a worker would examine all its types.
_decode_character = msgspec.msgpack.Decoder(Character).decode

Warn = Callable[[str, str | None], None]


class Settings:
    """The settings that one service may read.

    Args:
        name: NAME of the service.
        secrets: Its own secrets.
        agent: NAME of its agent; empty for none.
        character: The agent's character; None is the default one.
        withheld: Keys of the character's secrets that the service was not granted.
        not_granted: Names of variables that the supervisor has and the service was not granted.
        config_keys: Keys of its own config, which are no settings.
        warn: Shows a line in `status`, by a key.
    """

    def __init__(
        self,
        name: str,
        secrets: Mapping[str, str] | None = None,
        *,
        agent: str = "",
        character: Character | None = None,
        withheld: Iterable[str] = (),
        not_granted: Iterable[str] = (),
        config_keys: Iterable[str] = (),
        warn: Warn = lambda key, text: None,
    ) -> None:
        self._name, self._agent = name, agent
        self._secrets = dict(secrets or {})
        self.character = character if character is not None else default_character()
        self._withheld = set(withheld)
        self._not_granted, self._config_keys = set(not_granted), set(config_keys)
        self._warn = warn

    @classmethod
    def assigned(cls, a: Assignment, secrets: Mapping[str, str], warn: Warn) -> Self:
        """Return the settings of a worker."""
        encoded, character = bytes(a.identity.character), None
        if encoded != bytes(NIL):
            character = _decode_character(encoded)
        return cls(
            a.name,
            secrets,
            agent=a.identity.agent,
            character=character,
            withheld=a.identity.withheld,
            not_granted=a.not_granted,
            config_keys=a.config,
            warn=warn,
        )

    def get(self, key: str, default: Any = None) -> Any:
        """Return a setting; see `Runtime.get_setting`."""
        if (found := setting_of(self.character, key)) is not None:
            return found
        if key in self._secrets:
            return self._secrets[key]
        is_known = key in self._withheld or key in self._not_granted or key in self._config_keys
        if is_known and (key in self._withheld or key not in os.environ):
            self._hint(key)
        return os.environ.get(key, default)

    def _hint(self, key: str) -> None:
        """Name the place where a key is that this service does not get; once for each key."""
        section = f"services.{self._name}"
        if self._agent:
            section = f"agents.{self._agent}.services.{self._name.removeprefix(f'{self._agent}.')}"
        grant = f'add secrets = ["{key}"] to [{section}] in the config'
        owner = f"{self.character.name}'s character"
        event = "setting.withheld"
        if key in self._withheld:
            text = f"{key} is a secret of {owner} that this service is not granted; {grant}"
        elif key in self._config_keys:
            event = "setting.in_config"
            text = f"{key} is a key of [{section}.config]: read self.config, not get_setting"
        else:
            text = f"{key} is set for the supervisor, but this service is not granted it; {grant}"
        for known in (self._withheld, self._not_granted, self._config_keys):
            known.discard(key)
        log.warning("%s %s", event, text)
        self._warn(f"setting {key}", text)
