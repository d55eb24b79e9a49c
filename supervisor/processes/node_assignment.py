"""Changes an assignment for the node that it is carried out on: its folders and variables. Pure.

The supervisor writes paths of its own machine. On a node the files of a worker are in the node's
home, and plugins in the folder that the node's process was given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import msgspec

from garrison.ipc.errors import StartError
from garrison.ipc.messages import (
    Assignment,
    Paths,
    PluginSource,
    WorkerEnvironment,
    WorkerLimits,
    packed,
)

WILDCARDS = frozenset({"0.0.0.0", "*", "[::]"})


@dataclass(frozen=True, slots=True)
class NodePlaces:
    """Where things are on a node."""

    run: Path
    state: Path
    folder: Path  # of plugins
    host: str = ""  # the supervisor's machine, as the node reaches it
    lease: str = ""  # the file of the lease; empty: workers have none


def rewritten(
    assignment: Assignment,
    places: NodePlaces,
    shared: Mapping[str, str],
    base: Mapping[str, str],
) -> Assignment:
    """Return an assignment as it holds on a node.

    Args:
        assignment: As the supervisor has built it.
        places: The node's folders.
        shared: The variables that all processes on the supervisor's machine have.
        base: Those that all processes on the node have.

    Raises:
        StartError: It has what can only be had on the supervisor's machine.
    """
    limits, source = assignment.limits, assignment.source
    if limits.uid >= 0:
        raise StartError(
            assignment.name,
            "user = … works on the supervisor's machine alone: leave it out, or pin the service "
            'with node = "supervisor"',
        )
    return msgspec.structs.replace(
        assignment,
        source=PluginSource(source.name, source.use, str(places.folder)),
        paths=_paths(assignment, places),
        environment=WorkerEnvironment(
            _environment(assignment.environment.env, shared, base), assignment.environment.secrets
        ),
        limits=_limits(limits, source.folder, places.folder),
        terminal=msgspec.UNSET,
    )


def _paths(assignment: Assignment, places: NodePlaces) -> Paths:
    paths = assignment.paths
    lock = str(places.run / PurePath(paths.lock).name) if paths.lock else ""
    recorder = str(places.run / PurePath(paths.recorder).name) if paths.recorder else ""
    data = str(places.state / "services" / assignment.name) if paths.data else ""
    return msgspec.structs.replace(
        paths,
        control=_reachable(paths.control, places.host),
        bus=_reachable(paths.bus, places.host),
        lock=lock,
        recorder=recorder,
        data=data,
        lease=places.lease,
    )


def _reachable(address: str, host: str) -> str:
    """Return an address of the supervisor; where it listens at all, the one that is known."""
    scheme, _, rest = address.partition("://")
    listens, _, port = rest.rpartition(":")
    if not host or listens not in WILDCARDS:
        return address
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _environment(
    env: Mapping[str, bytes], shared: Mapping[str, str], base: Mapping[str, str]
) -> dict[str, bytes]:
    """Return the variables: the node's own, and those that the config adds or changes."""
    of_supervisor = packed(dict(shared))
    own = {name: value for name, value in env.items() if of_supervisor.get(name) != value}
    return {**packed(dict(base)), **own}


def _limits(limits: WorkerLimits, before: str, after: Path) -> WorkerLimits:
    """Return limits whose working directory, if it is in the config's folder, is in the node's."""
    folder = limits.working_directory
    return msgspec.structs.replace(limits, working_directory=moved(folder, before, after))


def moved(path: str, before: str, after: Path) -> str:
    """Return a path on a node; one in the config's folder is in the node's."""
    if not path or not PurePath(path).is_relative_to(before):
        return path
    return str(after / PurePath(path).relative_to(before))
