"""`garrison` whose services of a node are forked on this machine: `python tcp_host.py up …`.

They connect over TCP with keys of their own, as they would from another machine; through proxies
where PROXIES has their ports, for control and bus. An end waits for its connection for a minute.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.engines import DelayedEngine

from garrison.ipc import messages
from garrison.supervisor import components
from garrison.supervisor.bus import ends
from garrison.supervisor.cli import main
from garrison.supervisor.config.own_machine import SUPERVISOR
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.places import OneMachine
from garrison.supervisor.processes.engine import Forked, Happened, Inherited, Key
from garrison.supervisor.processes.local import LocalEngine

PROXIES = "GARRISON_TEST_PROXIES"
END_S = 60.0


class FarEngine(DelayedEngine):
    """The local engine; workers that connect over TCP count as a node's."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._far: set[Key] = set()

    def fork(self, key: Key, name: str, assignment: bytes, *args: Any, **kwargs: Any) -> None:
        """Fork a worker."""
        decoded = messages.decode_assignment(assignment)
        if isinstance(decoded, messages.Assignment) and decoded.paths.curve is not None:
            self._far.add(key)
            ports = os.environ.get(PROXIES, "").split()
            if ports:
                control, bus = (f"tcp://127.0.0.1:{port}" for port in ports)
                paths = msgspec.structs.replace(decoded.paths, control=control, bus=bus)
                changed = msgspec.structs.replace(decoded, paths=paths)
                assignment = messages.encode_assignment(changed)
        super().fork(key, name, assignment, *args, **kwargs)

    def adopt(self, known: Sequence[Inherited]) -> None:
        """Start to take over workers."""
        self._far |= {one.key for one in known if one.handle.node}
        super().adopt(known)

    def turn(self) -> list[Happened]:
        """Return what happened."""
        return [self._elsewhere(happened) for happened in super().turn()]

    def _elsewhere(self, happened: Happened) -> Happened:
        match happened:
            case Forked(key, handle, unsupported) if key in self._far:
                return Forked(key, msgspec.structs.replace(handle, node="far"), unsupported)
            case _:
                return happened


def far_engine(*args: Any, **kwargs: Any) -> DelayedEngine:
    """Return such an engine."""
    return FarEngine(LocalEngine(*args, **kwargs), 0.0)


class Places(OneMachine):
    """The places that services are pinned to."""

    def node_of(self, service: Service) -> str:
        """Return the node of a service."""
        node = service.spec.placement.pinned
        return "" if node == SUPERVISOR else node


if __name__ == "__main__":
    setattr(components, "LocalEngine", far_engine)  # noqa: B010
    setattr(components, "nodes_engine", lambda local, *_: local)  # noqa: B010
    setattr(components, "OneMachine", Places)  # noqa: B010
    ends.OVER_BY_S = END_S
    main()
