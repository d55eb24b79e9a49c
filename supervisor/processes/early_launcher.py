"""A launcher that is started before its supervisor has imported what it needs itself.

Both import at the same time. It serves nobody, and is not at its path, until the supervisor has the
locks of the home and sends it a command; it ends if the supervisor ends before that.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system import process_tree
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.spec import PluginSpec

from . import launcher_process
from .launcher_process import LauncherProcess

FIRST = 1  # the number of the first launcher of a home
PLAIN = re.compile(r"[A-Za-z0-9_]{1,64}")  # an entry point that may be a bundled plugin's
PLUGINS_MOST = 64


class EarlyLauncher:
    """The launcher of a host whose supervisor is being imported.

    Args:
        process: It, until it is taken.
    """

    def __init__(self, process: LauncherProcess) -> None:
        self._process: LauncherProcess | None = process
        self.pid = process.pid

    def take(self, path: Path) -> LauncherProcess | None:
        """Return it as the launcher with this socket; None if it is another's, or has ended."""
        process = self._process
        if process is None or process.path != str(path) or process_tree.ended(process.pidfd, 0):
            self.drop()
            return None
        self._process = None
        return process

    def drop(self) -> None:
        """End it, unless it was taken."""
        if self._process is not None:
            self._process.kill()
            self._process.reap()
            self._process = None


def start_early(
    host: HostSpec, environ: Mapping[str, str], plugins: Iterable[PluginSpec]
) -> EarlyLauncher | None:
    """Start the first launcher of a host; return None if a former one may be running.

    Args:
        host: The settings of the host; its folder of logs exists.
        environ: The environment of the supervisor.
        plugins: Those of the config: the bundled ones among them are imported.
    """
    if any(host.run.glob("launcher-*.sock")):
        return None
    words = [one.use for one in plugins if one.python is None and PLAIN.fullmatch(one.use)]
    try:
        process = launcher_process.start(
            launcher_process.socket_path(host.run, FIRST),
            host.logs / "launcher.log",
            base_environment(environ),
            host.orphan_grace,
            host.cgroups,
            early=words[:PLUGINS_MOST],
        )
    except (OSError, GarrisonError):  # what is wrong is reported when one is needed
        return None
    return EarlyLauncher(process)
