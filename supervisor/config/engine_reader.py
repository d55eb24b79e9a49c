"""Reads the values of `[engine]`, and those of a service about where it runs (pure)."""

import ipaddress
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import values
from .amount import parse_amount
from .engine_spec import (
    ANY,
    JOIN_S,
    LEASE_S,
    RAY_JOIN_S,
    EngineKind,
    EngineSpec,
    NodeSpec,
)
from .own_machine import SUPERVISOR
from .values import ConfigValueError, Reader, any_table, at_path, wrong_type

RESOURCE = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,63}")
HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
KNOWN = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}  # by their small letters
RESOURCES_MOST = 32
RUNTIME_ENV = ("pip", "py_modules")
LARGEST = 2.0**53  # of an amount; whole numbers below it are exact


def node_name(value: object) -> str:
    """Read the NAME of a node; "supervisor" is the supervisor's own machine."""
    if value == SUPERVISOR:
        return SUPERVISOR
    if not isinstance(value, str):
        raise wrong_type("a node's NAME in quotes", value)
    if value == ANY or not values.is_name(value):
        raise ConfigValueError(
            f"`{value[:80]}` cannot be a node's NAME: it has letters, digits and . _ - alone, "
            "begins with a letter or a digit, is at most 64 characters long, and is not any"
        )
    return value


def node_choice(value: object) -> str:
    """Read where a service runs: a node's NAME, "supervisor" or "any"."""
    return ANY if value == ANY else node_name(value)


def listen(value: object) -> str:
    """Read an address of this machine, with the first of three ports; "" is none."""
    expected = 'an address of this machine and a port, such as "10.0.0.1:7700"'
    if not isinstance(value, str):
        raise wrong_type(f"{expected}, in quotes", value)
    if not value:
        return value
    host, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or not port.isascii() or int(port) > 65533:
        raise ConfigValueError(f"expected {expected}, at most port 65533, got `{value[:80]}`")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ConfigValueError(f"expected {expected}, got `{value[:80]}`") from None
    return f"[{address}]:{int(port)}" if address.version == 6 else f"{address}:{int(port)}"


def ray_address(value: object) -> str:
    """Read the address of a Ray cluster."""
    expected = '"auto", or the address of its head node, such as "10.0.0.1:6379"'
    if not isinstance(value, str):
        raise wrong_type(expected, value)
    host, _, port = value.rpartition(":")
    is_address = HOST_NAME.fullmatch(host) and port.isdecimal() and int(port) < 65536
    if value != "auto" and not is_address:
        raise ConfigValueError(f"expected {expected}, got `{value[:80]}`")
    return value


def node_path(value: object) -> str:
    """Read a path on another machine: absolute there, or in a home folder."""
    if not isinstance(value, str):
        raise wrong_type("a path in quotes", value)
    if not value.startswith(("/", "~/")) or not value.isprintable():
        raise ConfigValueError("expected a path on the node's machine that begins with / or ~/")
    return value


def _resources(least_is_none: bool) -> Reader:
    """Return the reader of a table of resources; a node's may state that it has none of one."""

    def read(value: object) -> dict[str, float]:
        items = dict[str, float]()
        for key, part in any_table(value).items():
            with at_path(key):
                if (known := KNOWN.get(key.lower())) not in {None, key}:
                    raise ConfigValueError(f"it is called `{known}`")
                if not RESOURCE.fullmatch(key):
                    raise ConfigValueError(
                        "a resource's name has letters, digits and _ . : - alone, begins with a "
                        "letter, and is at most 64 characters long"
                    )
                items[key] = _memory(part) if key == "memory" else _number(part)
                if not items[key] and not least_is_none:
                    raise ConfigValueError("expected more than 0")
        if len(items) > RESOURCES_MOST:
            raise ConfigValueError(f"expected {RESOURCES_MOST} resources at most")
        return items

    return read


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type("a number, such as 1 or 0.5", value)
    if not math.isfinite(value) or not 0 <= value <= LARGEST:
        raise ConfigValueError(
            f"expected a number that is not negative, got {values.abbreviate(value)}"
        )
    return float(value)


def _memory(value: object) -> float:
    """Read an amount of memory: a number of bytes, or a text with a unit."""
    if not isinstance(value, str):
        return float(int(_number(value)))
    try:
        number, is_share = parse_amount(value)
    except ValueError:
        number, is_share = 0.0, True
    if is_share:
        raise ConfigValueError(f'expected an amount such as "2 GiB", got `{value[:40]}`')
    return float(int(number))


def runtime_env(value: object) -> dict[str, tuple[str, ...]]:
    """Read what Ray brings to each machine."""
    items = dict[str, tuple[str, ...]]()
    for key, part in any_table(value).items():
        with at_path(key):
            if key not in RUNTIME_ENV:
                raise ConfigValueError(
                    f"expected {' or '.join(RUNTIME_ENV)}: a node keeps these alone of what Ray "
                    "brings; variables belong in env of a service"
                )
            items[key] = values.list_of(_line, "texts")(part)
    return items


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type("a text in quotes", value)
    if not value or not value.isprintable():
        raise ConfigValueError("expected a line of text")
    return value


def _with_paths(brought: Mapping[str, tuple[str, ...]], folder: Path) -> dict[str, tuple[str, ...]]:
    """Return what Ray brings, with absolute paths of modules."""
    modules = tuple(
        one if "://" in one else str(folder / Path(one).expanduser())
        for one in brought.get("py_modules", ())
    )
    return {**brought, **({"py_modules": modules} if modules else {})}


ENGINE_READERS: dict[str, Reader] = {  # by `Key.kind`
    "node": node_choice,
    "listen": listen,
    "ray_address": ray_address,
    "node_path": node_path,
    "resources": _resources(least_is_none=False),
    "node_resources": _resources(least_is_none=True),
    "runtime_env": runtime_env,
}


def node_tables(table: Reader) -> Reader:
    """Return the reader of the tables of nodes, by NAME.

    Args:
        table: The reader of one.
    """
    return values.each(node_name, lambda value: NodeSpec(**table(value)))


def engine_spec(keys: dict[str, Any], orphan_grace: float, folder: Path) -> EngineSpec:
    """Return the settings of `[engine]`.

    Args:
        keys: Of the table.
        orphan_grace: Of the host.
        folder: Where paths begin.

    Raises:
        ConfigValueError: Two keys do not fit.
    """
    join_wait = RAY_JOIN_S if keys.get("kind") is EngineKind.RAY else JOIN_S
    defaults = {"lease": max(LEASE_S, orphan_grace), "join_wait": join_wait}
    brought = _with_paths(keys.get("runtime_env", {}), folder)
    spec = EngineSpec(**{**defaults, **keys, "runtime_env": brought})
    if spec.lease < orphan_grace:
        raise ConfigValueError(
            f"expected {orphan_grace:g} s at least, as `[host] orphan_grace`: services on nodes "
            "have to outlast a supervisor's end as the others do",
            *("engine", "lease"),
        )
    if spec.has_nodes and not spec.listen:
        raise ConfigValueError(
            f'kind "{spec.kind.value}" needs `listen = "ADDRESS:PORT"`, at which nodes connect to '
            "this machine",
            *("engine", "kind"),
        )
    if spec.nodes and spec.kind is EngineKind.RAY:
        problem = "with Ray, the cluster says what its machines have"
        raise ConfigValueError(problem, "engine", "nodes")
    return spec
