"""What a config names that lies outside it: files, secrets, users, programs (pure)."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SERVER = re.compile(r"postgres(ql)?(\+\w+)?://\S+")
PASSWORD = re.compile(r"(//[^/:@\s]*):[^@/\s]*@")


@dataclass
class References:
    """What was found, in the words of the config."""

    secret_files: list[str] = field(default_factory=list)
    characters: list[str] = field(default_factory=list)
    modules: list[str] = field(default_factory=list)  # of plugins
    secrets: dict[str, str] = field(default_factory=dict)  # name → where it comes from
    users: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    databases: list[str] = field(default_factory=list)  # addresses of servers, without passwords


def references(documents: Iterable[Mapping[str, Any]]) -> References:
    """Return what the tables of a config's files name."""
    found = References()
    for tables in documents:
        _add_all(found, tables)
    for key in ("secret_files", "characters", "modules", "users", "programs", "databases"):
        setattr(found, key, list(dict.fromkeys(getattr(found, key))))
    return found


def _add_all(found: References, tables: Mapping[str, Any]) -> None:
    for name, plugin in _tables(tables.get("plugins")):
        use = plugin.get("use", name)
        if isinstance(use, str):
            found.modules.append(use.partition(":")[0].partition(".")[0])
    for table in _all_tables(tables):
        _add(found, table)
    for _, section in _tables({"agent": tables.get("agent"), **_table(tables.get("agents"))}):
        character = section.get("character")
        if isinstance(character, str):
            found.characters.append(character.partition("#")[0])


def _add(found: References, table: Mapping[str, Any]) -> None:
    env_file, secrets, user = table.get("env_file"), table.get("secrets"), table.get("user")
    if isinstance(env_file, str):
        found.secret_files.append(env_file)
    if isinstance(secrets, list):
        for name in secrets:
            found.secrets.setdefault(str(name), f"env_file {env_file}" if env_file else "")
    for name, source in _table(secrets).items():
        file = _table(source).get("file")
        found.secrets[name] = f"file {file}" if file else str(source)
        if isinstance(file, str):
            found.secret_files.append(file)
    if isinstance(user, str | int) and not isinstance(user, bool):
        found.users.append(str(user))
    command = table.get("command")
    program = command[0] if isinstance(command, list) and command else command
    if isinstance(program, str) and program.split():
        found.programs.append(program.split()[0])
    for value in table.values():
        if isinstance(value, str) and (server := SERVER.search(value)):
            found.databases.append(PASSWORD.sub(r"\1@", server[0]))


def _all_tables(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        yield value
        for part in value.values():
            yield from _all_tables(part)
    elif isinstance(value, list):
        for part in value:
            yield from _all_tables(part)


def _tables(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, part in _table(value).items():
        if isinstance(part, Mapping):
            yield name, part


def _table(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
