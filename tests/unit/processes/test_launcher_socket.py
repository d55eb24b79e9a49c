"""The socket at which a launcher waits for the next supervisor."""

import os
from pathlib import Path

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
