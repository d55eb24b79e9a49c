"""What an assignment becomes on a node."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.ipc import messages
from garrison.ipc.errors import StartError
from garrison.ipc.messages import Assignment, Paths, WorkerLimits
from garrison.supervisor.processes.node_assignment import NodePlaces, rewritten

HERE = NodePlaces(
    Path("/node/run"), Path("/node/state"), Path("/node/bots"), "10.0.0.1", "/node/run/lease"
)
SHARED = {"PATH": "/usr/bin", "HOME": "/home/bot", "LANG": "C"}
BASE = {"PATH": "/opt/bin", "HOME": "/root"}


def assignment(**changes: Any) -> Assignment:
    """Return an assignment as the supervisor builds it."""
    paths = Paths(
        control="tcp://0.0.0.0:7701",
        bus="tcp://[::]:7702",
        lock="/host/run/echo.service.lock",
        recorder="/host/run/echo.67.flight",
        data="/host/state/services/echo",
    )
    env = {"PATH": b"/usr/bin", "HOME": b"/srv/echo", "LANG": b"C", "LEVEL": b"3"}
    made = Assignment(
        name="echo",
        source=messages.PluginSource(name="echo", use="echo", folder="/host"),
        service_type="echo",
        generation=1,
        token=b"g" * 16,
        paths=paths,
        environment=messages.WorkerEnvironment(env=env, secrets={"TOKEN": b"secret"}),
        config={},
        plugin_config={},
        timing=messages.Timing(watchdog=10.0, start_timeout=60.0, grace=5.0, orphan_grace=10.0),
        calls=messages.CallLimits(),
    )
    return msgspec.structs.replace(made, **changes)


def test_paths_are_the_nodes() -> None:
    """Files keep their names; a supervisor that listens everywhere is where the node reaches it."""
    paths = rewritten(assignment(), HERE, SHARED, BASE).paths

    assert paths.lock == "/node/run/echo.service.lock"
    assert paths.recorder == "/node/run/echo.67.flight"
    assert paths.data == "/node/state/services/echo"
    assert paths.lease == "/node/run/lease"
    assert (paths.control, paths.bus) == ("tcp://10.0.0.1:7701", "tcp://10.0.0.1:7702")


def test_an_address_is_kept() -> None:
    """Where the supervisor listens at one address, that is where workers connect."""
    changed = msgspec.structs.replace(assignment().paths, control="tcp://10.9.9.9:1")
    paths = rewritten(assignment(paths=changed), HERE, SHARED, BASE).paths
    assert paths.control == "tcp://10.9.9.9:1"


def test_variables_of_the_machine_are_the_nodes() -> None:
    """What the config sets is kept, and so are secrets."""
    environment = rewritten(assignment(), HERE, SHARED, BASE).environment

    assert environment.env == {"PATH": b"/opt/bin", "HOME": b"/srv/echo", "LEVEL": b"3"}
    assert environment.secrets == {"TOKEN": b"secret"}


@pytest.mark.parametrize(
    ("folder", "there"),
    [
        ("", ""),
        ("/host", "/node/bots"),
        ("/host/sub/x", "/node/bots/sub/x"),
        ("/hostile", "/hostile"),
    ],
)
def test_folders_of_the_config_are_the_nodes(folder: str, there: str) -> None:
    """The plugins' folder, and a working directory below it; another one must be on the node."""
    limits = WorkerLimits(working_directory=folder)
    mine = rewritten(assignment(limits=limits), HERE, SHARED, BASE)

    assert mine.source.folder == "/node/bots"
    assert mine.limits.working_directory == there


def test_a_user_is_refused() -> None:
    """Its number may be another user's on the node."""
    with pytest.raises(StartError, match="user ="):
        rewritten(assignment(limits=WorkerLimits(uid=1000)), HERE, SHARED, BASE)
