"""Appends what workers on nodes have written to the logs on the supervisor's machine."""

import os
from pathlib import Path

from garrison.ipc.system.log_stream import open_log


class NodeLogs:
    """The logs of workers on nodes, where `garrison logs` and the rotation find them.

    Args:
        folder: Of the logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def append(self, log: str, data: bytes, dropped: int, node: str) -> None:
        """Append lines to a log. What cannot be written is lost, as it is of a local worker.

        Args:
            log: Its name; a name that is none is ignored.
            data: The lines.
            dropped: Bytes before them that the node has dropped.
            node: Its name.
        """
        if not log or "/" in log or log.startswith("."):
            return
        if dropped:
            words = f"[{dropped} bytes of this log were dropped on node {node}]\n".encode()
            data = words + data
        try:
            descriptor = open_log(str(self._folder / f"{log}.log"))
        except OSError:
            return
        try:
            while data:
                data = data[os.write(descriptor, data) :]
        except OSError:
            pass  # the disk is full
        finally:
            os.close(descriptor)
