"""Builds the placing of a host with nodes."""

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import msgspec

from garrison.supervisor.config.engine_spec import EngineKind
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.own_machine import SUPERVISOR
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.processes.processors import processor_count
from garrison.supervisor.state.node_keys import FOLDER
from garrison.supervisor.state.placement_store import PlacementStore

from .list_placer import ListPlacer
from .offers import NodeReport, machine_resources
from .placement import Placement, PlacementHooks
from .placer import Placer

LOOK_S = 0.5  # between two looks for new keys


@runtime_checkable
class EngineOfNodes(Protocol):
    """What placing uses of an engine that has nodes."""

    def nodes(self) -> Sequence[NodeReport]:
        """Return every node that has reported in."""
        ...

    def place(self, key: bytes, node: str) -> None:
        """Have a worker forked on a node; called before `fork`. Empty: on this machine."""
        ...


def build_placement(
    host: HostSpec,
    services: ServiceTable,
    engine: EngineOfNodes,
    record: Callable[..., object],
    move: Callable[[Service], None],
    wake: Callable[[], None],
    report_unsaved: Callable[[str], None],
    environ: Mapping[str, str],
    others: set[int],
) -> Placement:
    """Return the placing of a host.

    Args:
        host: The settings of the host.
        services: All services.
        engine: Runs them.
        record: Records an event.
        move: Restarts a service.
        wake: The next turn of the loop must not wait.
        report_unsaved: Called with why a state file cannot be written.
        environ: The environment at the start.
        others: Pids of children of this process that are not the engine's.
    """
    hooks = PlacementHooks(
        reports=engine.nodes,
        expected=ExpectedNodes(host).names,
        has_files=lambda name: has_files(host.state / "services" / name),
        put=engine.place,
        move=move,
        record=record,
        wake=wake,
    )
    store = PlacementStore(host.state, report_unsaved)
    if store.problem:
        record("state.damaged", problem=store.problem)
    placer = make_placer(host, environ, others)
    return Placement(services, host.engine, own_resources(), placer, store, hooks)


def make_placer(host: HostSpec, environ: Mapping[str, str], others: set[int]) -> Placer:
    """Return what finds nodes."""
    if host.engine.kind is not EngineKind.RAY:
        return ListPlacer()
    from .ray_client import RayPlacer

    of_ray = {key: value for key, value in environ.items() if key.startswith("RAY_")}
    environment = {**base_environment(environ), **of_ray}
    namespace = f"garrison-{hashlib.sha256(os.fsencode(host.home)).hexdigest()[:12]}"
    engine = host.engine
    brings = msgspec.json.encode(engine.runtime_env).decode() if engine.runtime_env else ""
    arguments = (engine.address, namespace, engine.node_key, brings)
    return RayPlacer(arguments, environment, others)


def own_resources() -> dict[str, float]:
    """Return what this machine has."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return machine_resources(processor_count(), memory)


class ExpectedNodes:
    """The nodes that have a key, or a table in the config. The folder of keys is read now and then:
    places are settled in each turn of the loop.

    Args:
        host: The settings of the host.
    """

    def __init__(self, host: HostSpec) -> None:
        self._named, self._folder = dict.fromkeys(host.engine.nodes), host.home / FOLDER
        self._names: list[str] = []
        self._due = 0.0

    def names(self) -> list[str]:
        """Return their NAMEs, as of `LOOK_S` seconds ago at most."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + LOOK_S
            try:
                keys = sorted(path.stem for path in self._folder.glob("*.key"))
            except OSError:
                keys = []
            found = {**self._named, **dict.fromkeys(keys)}
            self._names = [name for name in found if name != SUPERVISOR]
        return self._names


def has_files(folder: Path) -> bool:
    """Return whether a folder has anything in it; True if that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except FileNotFoundError:
        return False
    except OSError:
        return True
