"""Reads the agents' character files, and finds characters and secrets that no service uses."""

import contextlib
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import msgspec

from garrison.ipc.character import (
    Character,
    CharacterError,
    choose,
    default_character,
    parse_all,
    secrets_of,
    text_without_secrets,
    unused_in,
    with_secrets_of,
    without_foreign_secrets,
)

from .environment import UnusableFile, read_with_permission_problem
from .spec import AgentSpec, ServiceSpec

UNUSED_SHOWN = 20  # unused parts of a character that a note names


def read_agent(
    name: str, path: Path | None, texts: Mapping[str, str] | None = None
) -> tuple[AgentSpec, str]:
    """Return an agent, and the text of its character file without secrets; empty without a file.

    Args:
        name: The agent's NAME; empty for the host's own.
        path: The character file, with "#" and a name if it holds several; None: no file is
            configured.
        texts: The texts of the files that were accepted; None: the file is read. With them, the
            file is read for its secrets alone, which are kept nowhere else.

    Raises:
        CharacterError: The file cannot be read, or used.
    """
    if path is None:
        character = default_character()
        if name:
            character = msgspec.structs.replace(character, name=name, system="")
        return AgentSpec(name=name, character=character), ""
    file, wanted = _split(path)
    if texts is not None and (text := texts.get(str(path))) is not None:
        return _accepted_agent(name, file, wanted, text), text
    try:
        data, problem = read_with_permission_problem(file)
        character = choose(parse_all(data), wanted, name)
    except FileNotFoundError:
        raise CharacterError(f"there is no file {file}") from None
    except UnusableFile as error:
        raise CharacterError(f"{file} {error}") from None
    except CharacterError as error:
        raise CharacterError(f"{file}: {error}") from None
    spec = AgentSpec(name=name, character=character, file=file, open_to_others=problem)
    return spec, text_without_secrets(data)


def _accepted_agent(name: str, file: Path, wanted: str, text: str) -> AgentSpec:
    """Return an agent as it was accepted, with the secrets that its file has now."""
    character, problem = choose(parse_all(text.encode()), wanted, name), ""
    with contextlib.suppress(FileNotFoundError, UnusableFile):
        data, problem = read_with_permission_problem(file)
        character = with_secrets_of(character, data)
    return AgentSpec(name=name, character=character, file=file, open_to_others=problem)


def _split(path: Path) -> tuple[Path, str]:
    """Return the file and the character's name behind "#"; a file's name may have a "#" too."""
    if "#" not in path.name or os.path.lexists(path):  # a Path's own `exists` may raise
        return path, ""
    name, _, wanted = path.name.rpartition("#")
    return path.with_name(name or "#"), wanted.strip()


def character_for(spec: ServiceSpec, given: Collection[str]) -> tuple[Character, tuple[str, ...]]:
    """Return the character that a service's worker gets, and the names of its withheld secrets.

    Args:
        spec: The service.
        given: The names of the secrets that the service has.
    """
    character = spec.agent.character
    secrets = secrets_of(character)
    requested = spec.environment.secrets.items()
    own = {name for name, source in requested if name == source and name in secrets}
    withheld = tuple(name for name in secrets if name not in own and name not in given)
    return without_foreign_secrets(character, own, given), withheld


def unused_characters(agents: Iterable[AgentSpec], services: Iterable[ServiceSpec]) -> list[str]:
    """Return a note for each character file that no service of type `agent` answers as."""
    answering = {spec.agent.name for spec in services if spec.service_type == "agent"}
    notes = list[str]()
    for agent in agents:
        if agent.file is not None and agent.name not in answering:
            section, remedy = "[agent]", "a plugin that one of [agents] runs is run for those alone"
            if agent.name:
                section = f"[agents.{agent.name}]"
                remedy = "put the plugin `agent` into its `plugins`"
            notes.append(
                f"no service answers as {agent.character.name} ({agent.file}): "
                f"{section} has no service of type agent; {remedy}"
            )
    return notes


def unused_fields(agents: Iterable[AgentSpec]) -> list[str]:
    """Return a note for each character file with parts that the bundled agent does not use."""
    notes = list[str]()
    for agent in agents:
        if agent.file is None:
            continue
        try:
            found = unused_in(read_with_permission_problem(agent.file)[0], agent.character.name)
        except (FileNotFoundError, UnusableFile, CharacterError):  # it has just been changed
            continue
        if found:
            named = ", ".join(found[:UNUSED_SHOWN])
            more = len(found) - UNUSED_SHOWN
            notes.append(
                f"{agent.file}: of {agent.character.name} the agent does not use {named}"
                + (f" and {more} more" if more > 0 else "")
                + "; services read them from runtime.character"
            )
    return notes


def unused_secrets(agents: Iterable[AgentSpec], services: Iterable[ServiceSpec]) -> list[str]:
    """Return a note for each character with secrets that no service of its agent names."""
    requested: dict[str, set[str]] = {}
    for spec in services:
        sources = (one for one in spec.environment.secrets.values() if isinstance(one, str))
        requested.setdefault(spec.agent.name, set()).update(sources)
    notes = list[str]()
    for agent in agents:
        names = requested.get(agent.name, set())
        left = [name for name in secrets_of(agent.character) if name not in names]
        if left:
            section = f"agents.{agent.name}.services" if agent.name else "services"
            notes.append(
                f"{agent.file} has secrets that no service is given: {', '.join(left)}; "
                f'[{section}.NAME] secrets = ["{left[0]}"] gives one to it'
            )
    return notes
