"""Starts and watches the node's process on one machine of a Ray cluster; runs as a Ray actor.

The process is no child of Ray's: it goes on when this actor, its raylet or the cluster ends.
Imports nothing of Ray. Durations are seconds.
"""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import msgspec

from garrison.ipc.system.locks import is_locked
from garrison.supervisor.state.node_keys import read_key

from .ray_environment import brought, kept

AGAIN_S = 5.0  # between two starts
START_S = 20.0  # for the program that detaches the process
OUTPUT_BYTES = 1 << 20  # of the process's output, above which it is begun anew
# Variables by which Ray limits its own workers, and what is secret of its own.
OF_RAY = (
    *("RAY_", "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
    *("ONEAPI_DEVICE_SELECTOR", "NEURON_RT_VISIBLE_CORES", "TPU_VISIBLE_CHIPS"),
    *("HABANA_VISIBLE_MODULES", "ASCEND_RT_VISIBLE_DEVICES", "OMP_NUM_THREADS"),
)


class NodeLook(msgspec.Struct, frozen=True):
    """What an agent knows of its machine."""

    name: str = ""  # NAME of the node; empty: it cannot be one
    problem: str = ""


class NodeAgent:
    """The agent of one machine.

    Args:
        key: The path of the node's key file; `~` is the home folder of this user. Its folder is
            the node's home, and has the plugins that are files.
    """

    def __init__(self, key: str) -> None:
        self._key = Path(key).expanduser()
        self._again_at = 0.0

    def look(self) -> dict[str, str]:
        """Start the node's process if it does not run, and return a `NodeLook` as a dict."""
        return {key: str(value) for key, value in msgspec.structs.asdict(self._look()).items()}

    def _look(self) -> NodeLook:
        machine = os.uname().nodename
        try:
            key = read_key(self._key)
        except Exception as error:  # noqa: BLE001 (its text is shown to the operator)
            return NodeLook(problem=f"{machine} has no node: {error}")
        home = self._key.parent
        if not is_locked(home / "node.lock") and time.monotonic() >= self._again_at:
            self._again_at = time.monotonic() + AGAIN_S
            if problem := self._start(home):
                return NodeLook(problem=f"node {key.name} on {machine} does not start: {problem}")
        return NodeLook(key.name)

    def _start(self, home: Path) -> str:
        """Start the node's process; return why that failed, empty if it did not."""
        environ = node_environment(dict(os.environ))
        try:
            python = kept(home, brought(sys.executable, sys.path), environ)
            command = [python, "-P", "-m", "garrison.supervisor.cli"]
            command += ["node", "--key", str(self._key), "--home", str(home), "--folder", str(home)]
            with _output(home) as out:
                done = subprocess.run(
                    [python, "-P", "-m", DETACHED, *command],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    timeout=START_S,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        return "" if done.returncode == 0 else f"exit {done.returncode}; see {home}/node.out"


DETACHED = "garrison.supervisor.placing.detached"


def node_environment(environ: dict[str, str]) -> dict[str, str]:
    """Return the environment of a node's process: without what is Ray's."""
    return {key: value for key, value in environ.items() if not key.startswith(OF_RAY)}


def _output(home: Path) -> IO[bytes]:
    path = home / "node.out"
    with contextlib.suppress(OSError):
        if path.stat().st_size > OUTPUT_BYTES:
            path.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "ab")
