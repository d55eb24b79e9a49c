"""What a shell completes: the NAMEs of services, their methods, rooms, crash reports and pages.

It reads files alone: a shell must not wait for a supervisor that is busy, or stopped. An error
completes nothing. Switched on by `_GARRISON_COMPLETE`, see docs/reference/cli.md.
"""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import click
import msgspec

Complete: TypeAlias = Callable[[click.Context, click.Parameter, str], list[str]]


def completes(find: Callable[[Path, click.Context], Iterable[str]]) -> Complete:
    """Return a function for click that completes what `find` returns."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        with contextlib.suppress(Exception):  # a shell's line is no place for an error
            given = set(_words(ctx, param))
            found = sorted(set(find(_home(ctx), ctx)) - given)
            return [word for word in found if word.startswith(incomplete)]
        return []

    return complete


def _words(ctx: click.Context, param: click.Parameter) -> Iterable[str]:
    value = ctx.params.get(param.name or "")
    return [value] if isinstance(value, str) else value or ()


def _home(ctx: click.Context) -> Path:
    from garrison.supervisor.config.homes import find_home  # only a shell that completes needs it

    found = ctx.find_root().obj
    config = getattr(found, "named_config", ()) or None
    return find_home(getattr(found, "home_option", None), config, os.environ)


class _Manifest(msgspec.Struct):
    methods: list[dict[str, Any]] = []


class _Known(msgspec.Struct):
    name: str
    manifest: _Manifest = msgspec.field(default_factory=_Manifest)


class _Snapshot(msgspec.Struct):
    services: list[_Known] = []


def _snapshot(home: Path) -> list[_Known]:
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        data = (home / "state" / "living.json").read_bytes()
        return msgspec.json.decode(data, type=_Snapshot).services
    return []


def _names(home: Path, ctx: click.Context) -> set[str]:
    """Return the NAMEs of services: those that run, that have a log, and of the config."""
    import tomllib

    from garrison.ipc.log_files import service_logs
    from garrison.supervisor.config.document import read_file

    found = {one.name for one in _snapshot(home)} | set(service_logs(home / "logs"))
    with contextlib.suppress(OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        config = tomllib.loads(read_file(Path("config.toml")).decode())
        found |= {*config.get("services", {}), *config.get("plugins", {})}
    return found


def _rooms(home: Path, ctx: click.Context) -> list[str]:
    """Return the beginning of NAME/ROOM for each service; a room's id is in no file of the host."""
    return [f"{name}/" for name in _names(home, ctx)]


def _methods(home: Path, ctx: click.Context) -> list[str]:
    name = ctx.params.get("name")
    return [
        method["name"]
        for one in _snapshot(home)
        if one.name == name
        for method in one.manifest.methods
    ]


def _deaths(home: Path, ctx: click.Context) -> set[str]:
    ids = {path.stem for path in (home / "state" / "deaths").glob("*.json")}
    return ids | {death.rpartition("-")[0] for death in ids}


complete_names = completes(_names)
complete_rooms = completes(_rooms)
complete_methods = completes(_methods)
complete_deaths = completes(_deaths)
