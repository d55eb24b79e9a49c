"""Character files: read when the config is, and which of their secrets nobody asks for."""

import hashlib
import os
from collections.abc import Collection, Iterable
from pathlib import Path

import msgspec

from garrison.ipc.character import (
    Character,
    CharacterError,
    choose,
    default_character,
    parse_all,
    secrets_of,
    without_foreign_secrets,
)

from .environment import Unusable, read_with_permission_problem
from .spec import AgentSpec, ServiceSpec


def read_agent(name: str, said: Path | None) -> tuple[AgentSpec, str]:
    """Return an agent, and what tells its character's file from any other text.

    Args:
        name: Its NAME; empty for who speaks for everybody's services.
        said: The file of its character, "#" and a name after it where it holds several; None where
            the config names none.

    Raises:
        CharacterError: The file cannot be read, or used.
    """
    if said is None:
        character = default_character()
        if name:
            character = msgspec.structs.replace(character, name=name, system="")
        return AgentSpec(name=name, character=character), ""
    file, wanted = _parted(said)
    try:
        data, problem = read_with_permission_problem(file)
        character = choose(parse_all(data), wanted, name)
    except FileNotFoundError:
        raise CharacterError(f"there is no file {file}") from None
    except Unusable as error:
        raise CharacterError(f"{file} {error}") from None
    except CharacterError as error:
        raise CharacterError(f"{file}: {error}") from None
    spec = AgentSpec(name=name, character=character, file=file, open_to_others=problem)
    return spec, hashlib.sha256(data).hexdigest()


def _parted(said: Path) -> tuple[Path, str]:
    """Return a file, and which of its characters is meant; a file may have a "#" in its name."""
    if "#" not in said.name or os.path.lexists(said):  # a Path's own `exists` may raise
        return said, ""
    name, _, wanted = said.name.rpartition("#")
    return said.with_name(name or "#"), wanted.strip()


def character_for(spec: ServiceSpec, given: Collection[str]) -> tuple[Character, tuple[str, ...]]:
    """Return the character as a service's worker is told it, and the names of its secrets that are
    not among those that the service is given."""
    agent = spec.agent
    secrets = secrets_of(agent.character)
    own = {
        name
        for name, source in spec.environment.secrets.items()
        if name == source and name in secrets
    }
    withheld = tuple(name for name in secrets if name not in own and name not in given)
    return without_foreign_secrets(agent.character, own, given), withheld


def unused_characters(agents: Iterable[AgentSpec], services: Iterable[ServiceSpec]) -> list[str]:
    """Return a sentence for each character of a file that no service of type `agent` answers as."""
    answering = {spec.agent.name for spec in services if spec.service_type == "agent"}
    found = list[str]()
    for agent in agents:
        if agent.file is not None and agent.name not in answering:
            of, how = "[agent]", "a plugin that one of [agents] runs is run for those alone"
            if agent.name:
                of, how = f"[agents.{agent.name}]", "put the plugin `agent` into its `plugins`"
            found.append(
                f"nobody answers as {agent.character.name} ({agent.file}): "
                f"{of} has no service of type agent; {how}"
            )
    return found


def unused_secrets(agents: Iterable[AgentSpec], services: Iterable[ServiceSpec]) -> list[str]:
    """Return a sentence for each character with secrets that no service of it names."""
    asked: dict[str, set[str]] = {}
    for spec in services:
        sources = (
            source for source in spec.environment.secrets.values() if isinstance(source, str)
        )
        asked.setdefault(spec.agent.name, set()).update(sources)
    found = list[str]()
    for agent in agents:
        left = [
            name for name in secrets_of(agent.character) if name not in asked.get(agent.name, ())
        ]
        if left:
            where = f"agents.{agent.name}.services" if agent.name else "services"
            found.append(
                f"{agent.file} has secrets that no service is given: {', '.join(left)}; "
                f'[{where}.NAME] secrets = ["{left[0]}"] gives one to it'
            )
    return found
