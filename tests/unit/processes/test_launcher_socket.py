"""The socket at which a launcher waits for the next supervisor."""

import contextlib
import os
from pathlib import Path

import pytest

from garrison.supervisor.processes.launcher_socket import LauncherSocket, is_listening

TIMES, PROCESSES = 200, 4


def test_launchers_that_bind_at_one_path_do_not_disturb_each_other(short_path: Path) -> None:
    """The last one is at the path: a home may have been moved, and another made in its place."""
    path = short_path / "launcher-1.sock"
    children = []
    for _ in range(PROCESSES):
        pid = os.fork()
        if not pid:
            try:
                for _ in range(TIMES):
                    LauncherSocket(str(path))._listener.close()
            except BaseException:  # noqa: BLE001 (its exit code tells)
                os._exit(1)
            os._exit(0)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]

    assert codes == [0] * PROCESSES
    last = LauncherSocket(str(path))
    assert is_listening(path)
    assert [one.name for one in short_path.iterdir()] == [path.name]
    last._listener.close()


@pytest.mark.parametrize(
    ("lock", "supervisor", "is_restored"),
    [
        ("its own", True, True),
        ("another's", True, False),  # a host that took the path of a moved home
        ("none", True, False),  # the supervisor makes it anew, or another host does in a moment
        ("another's", False, True),  # the next supervisor's, perhaps
        ("none", False, True),
        ("never", True, True),  # on a node
    ],
)
def test_a_lost_socket_is_restored_beside_the_lock_of_its_supervisor(
    short_path: Path, lock: str, supervisor: bool, is_restored: bool
) -> None:
    """While that one lives: without it, there is nothing else to go by."""
    path, file = short_path / "launcher-1.sock", short_path / "supervisor.lock"
    if lock != "never":
        file.touch()
    launcher = LauncherSocket(str(path))
    path.unlink()
    if lock == "none":
        file.unlink()
    with file.open() if lock == "its own" else contextlib.nullcontext():
        launcher.due = 0.0
        launcher.restore_if_lost(lambda: os.getpid() if supervisor else 0)

    assert is_listening(path) == is_restored
    launcher._listener.close()
