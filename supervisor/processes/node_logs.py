"""Appends what workers on nodes have written to the logs on the supervisor's machine.

A node that was killed sends again what it does not know to be received; that is left out.
"""

import os
from pathlib import Path
from typing import TypeAlias

from garrison.ipc.system.log_stream import open_log

from .node_protocol import LogChunk

LOGS_MOST = 4096  # of which it is known what was received
NO_FILE = (0, 0)

Received: TypeAlias = tuple[tuple[int, int], int]  # the file, and up to where


class NodeLogs:
    """The logs of workers on nodes, where `garrison logs` and the rotation find them.

    Args:
        folder: Of the logs.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._received: dict[tuple[bytes, str], Received] = {}  # by home and log, the latest last

    def append(self, chunk: LogChunk, node: str, instance: bytes) -> None:
        """Append lines to a log. What cannot be written is lost, as it is of a local worker.

        Args:
            chunk: What a node has sent; one with a name that is none is ignored.
            node: Its name.
            instance: Its home.
        """
        log = chunk.log
        if not log or "/" in log or log.startswith("."):
            return
        data = self._new_part(chunk, instance)
        if not data:
            return
        if chunk.dropped:
            words = f"[{chunk.dropped} bytes of this log were dropped on node {node}]\n".encode()
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

    def _new_part(self, chunk: LogChunk, instance: bytes) -> bytes:
        """Return what of a chunk was not received before."""
        if chunk.file == NO_FILE:
            return chunk.data
        key = instance, chunk.log
        file, end = self._received.pop(key, (NO_FILE, 0))
        known = end - chunk.offset if file == chunk.file else 0
        new = chunk.data[max(known, 0) :]
        self._received[key] = chunk.file, max(chunk.offset + len(chunk.data), end if known else 0)
        while len(self._received) > LOGS_MOST:
            del self._received[next(iter(self._received))]
        return new
