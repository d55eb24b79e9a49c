"""The home of a node on disk: folders, lock, and what the node's next process needs to know."""

import os
import secrets
from pathlib import Path

import msgspec

from garrison.ipc.errors import GarrisonError
from garrison.ipc.system.locks import hold_lock
from garrison.supervisor.processes.node_protocol import INSTANCE_BYTES, KnownWorker
from garrison.supervisor.state.atomic import write_atomic
from garrison.supervisor.state.home import make_private
from garrison.supervisor.state.stored import FORMAT, read_stored

BOOT = Path("/proc/sys/kernel/random/boot_id")
FILE = "node.json"


class NodeMemory(msgspec.Struct, kw_only=True):
    """The content of `state/node.json`."""

    format: int = FORMAT
    machine: str = ""  # this run of the machine, and which folder: pids of another mean nothing
    instance: str = ""  # of this home on this run, in hexadecimal digits
    lease: float = 0.0  # of the last session; 0: there was none
    orphan_grace: float = 10.0
    cgroups: bool = True
    log_bytes: int = 10 * 1024 * 1024
    workers: list[KnownWorker] = []
    sent: dict[str, tuple[int, int]] = {}  # log → inode, and up to where it was sent
    files: dict[str, int] = {}  # log → how many files it had before that one


class NodeHome:
    """The home, locked by this process.

    Args:
        path: Of the home.

    Attributes:
        memory: What the process before this one has left; this one changes it.
        is_new: Whether there was none on this run of the machine: what its files say of times and
            processes means nothing.
        problem: Why `memory` is not written; empty: it is.

    Raises:
        GarrisonError: It cannot be used, or another process has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run, self.state, self.logs = path / "run", path / "state", path / "logs"
        for folder in (path, self.run, self.state, self.logs):
            make_private(folder)
        self._lock = hold_lock(path / "node.lock")
        if self._lock is None:
            raise GarrisonError(
                f"another garrison node uses {path}: end it, or name another home with --home"
            )
        self.is_new, self.problem = False, ""
        self.memory = self._read()

    def _read(self) -> NodeMemory:
        status = self.path.stat()  # a copy of a home is another home
        machine = f"{BOOT.read_text('ascii').strip()} {status.st_dev} {status.st_ino}"
        memory, _ = read_stored(self.state / FILE, NodeMemory)
        if memory is not None and memory.machine == machine:
            return memory
        self.is_new = True
        new = NodeMemory(machine=machine, instance=secrets.token_hex(INSTANCE_BYTES))
        _, same = machine.split(" ", 1)
        if memory is not None and memory.machine.endswith(f" {same}"):  # the machine was restarted
            new.sent, new.files = memory.sent, memory.files
        return new

    @property
    def instance(self) -> bytes:
        """Return what tells this home from another one that has the same key."""
        return bytes.fromhex(self.memory.instance)

    def save(self) -> None:
        """Write `memory`, or note in `problem` why not: a full disk ends no service."""
        try:
            write_atomic(self.state / FILE, msgspec.json.encode(self.memory))
        except OSError as error:
            self.problem = f"{self.state / FILE} cannot be written: {error.strerror}"
        else:
            self.problem = ""

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
