"""The file `state/nodes.json`: which workers may run on nodes, and for how long without contact.

It is written before a worker is forked on a node, so that a supervisor that takes over knows of
each one, also where the former was killed before it had written its snapshot.
"""

from pathlib import Path

import msgspec

from garrison.supervisor.state.atomic import write_atomic
from garrison.supervisor.state.stored import FORMAT, read_stored

FILE = "nodes.json"


class RecordedWorker(msgspec.Struct, frozen=True):
    """A worker on a node."""

    node: str
    name: str


class NodeRecord(msgspec.Struct, kw_only=True):
    """The content of the file."""

    format: int = FORMAT
    lease: float = 0.0  # seconds that was granted to each node
    workers: dict[str, RecordedWorker] = {}  # by key, in hexadecimal digits
    instances: dict[str, str] = {}  # node → the home that has its workers, in hexadecimal digits


def read_record(state: Path) -> tuple[NodeRecord, str]:
    """Return the record, empty if there is none, and a problem in words."""
    found, problem = read_stored(state / FILE, NodeRecord)
    return found or NodeRecord(), problem


def write_record(state: Path, record: NodeRecord) -> None:
    """Write the record.

    Raises:
        OSError: It cannot be written.
    """
    write_atomic(state / FILE, msgspec.json.encode(record))
