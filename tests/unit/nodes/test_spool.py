"""What a node sends of the logs of its workers."""

import os
from pathlib import Path

import pytest

from garrison.supervisor.node import spool
from garrison.supervisor.node.spool import LogSpool
from garrison.supervisor.processes.node_logs import NodeLogs
from garrison.supervisor.processes.node_protocol import LogChunk


class Receiver:
    """Takes chunks, and acknowledges on order."""

    def __init__(self, folder: Path, most: int = 1 << 20) -> None:
        self.sent: list[tuple[str, bytes, int]] = []
        self.chunks: list[LogChunk] = []
        self.spool = LogSpool(folder, self._send, {}, {}, most)

    def _send(self, chunk: LogChunk) -> int:
        self.sent.append((chunk.log, chunk.data, chunk.dropped))
        self.chunks.append(chunk)
        return len(self.sent)

    def text(self) -> bytes:
        """Return everything."""
        return b"".join(data for _, data, _ in self.sent)


def test_each_line_is_sent_once(tmp_path: Path) -> None:
    """As it is appended; a log that does not exist yet is waited for."""
    one = Receiver(tmp_path)
    one.spool.add("a")
    assert not one.spool.turn()
    (tmp_path / "a.log").write_bytes(b"first\n")
    assert one.spool.turn()
    assert not one.spool.turn()
    with (tmp_path / "a.log").open("ab") as log:
        log.write(b"second\n")
    one.spool.turn()
    assert one.text() == b"first\nsecond\n"


def test_no_more_is_under_way_than_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is sent as the supervisor receives it."""
    monkeypatch.setattr(spool, "WINDOW", 100)
    monkeypatch.setattr(spool, "CHUNK", 40)
    one, content = Receiver(tmp_path), bytes(range(250))
    (tmp_path / "a.log").write_bytes(content)
    one.spool.add("a")
    one.spool.turn()
    assert [len(data) for _, data, _ in one.sent] == [40, 40, 20]
    one.spool.turn()
    assert len(one.sent) == 3
    while len(one.text()) < len(content):
        one.spool.acknowledge(len(one.sent))
        one.spool.turn()
    assert one.text() == content


def test_another_session_begins_where_the_supervisor_is(tmp_path: Path) -> None:
    """What it has not received is sent again, and the next process of the node goes on there."""
    one = Receiver(tmp_path)
    (tmp_path / "a.log").write_bytes(b"first\n")
    one.spool.add("a")
    one.spool.turn()
    one.spool.acknowledge(1)
    with (tmp_path / "a.log").open("ab") as log:
        log.write(b"second\n")
    one.spool.turn()

    one.spool.send_again()
    one.spool.turn()
    assert one.text() == b"first\nsecond\nsecond\n"

    two = Receiver(tmp_path)
    two.spool = LogSpool(tmp_path, two._send, *one.spool.positions(), 1 << 20)
    two.spool.add("a")
    two.spool.turn()
    assert two.text() == b"second\n"


def test_what_waits_too_long_is_dropped(tmp_path: Path) -> None:
    """The oldest part, and the next chunk says how much."""
    one = Receiver(tmp_path, most=100)
    (tmp_path / "a.log").write_bytes(b"x" * 150 + b"y" * 50)
    one.spool.add("a")
    one.spool.turn()
    assert one.sent == [("a", b"y" * 50, 150)]


def test_what_was_sent_is_freed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks, once the supervisor has it; the file keeps its size, so that nothing moves."""
    monkeypatch.setattr(spool, "WINDOW", 1 << 24)
    one, log = Receiver(tmp_path, most=1 << 24), tmp_path / "a.log"
    log.write_bytes(b"x" * (4 << 20))
    before = log.stat()
    if before.st_blocks * 512 < 4 << 20:
        pytest.skip("this file system counts no blocks")
    one.spool.add("a")
    one.spool.turn()
    assert log.stat().st_blocks == before.st_blocks
    one.spool.acknowledge(len(one.sent))
    one.spool.turn()
    if (after := log.stat()).st_blocks == before.st_blocks:
        pytest.skip("this file system makes no holes")
    assert after.st_size == before.st_size
    assert after.st_blocks * 512 <= spool.KEPT + spool.PUNCH


def test_a_log_that_is_made_anew_is_read_from_its_begin(tmp_path: Path) -> None:
    """Whoever removed it: what is written into the new file is not lost."""
    one, log = Receiver(tmp_path), tmp_path / "a.log"
    log.write_bytes(b"a long first line\n")
    one.spool.add("a")
    one.spool.turn()
    log.rename(tmp_path / "kept")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(descriptor, b"new\n")
    os.close(descriptor)
    one.spool.turn()
    assert one.text() == b"a long first line\nnew\n"


def test_what_is_sent_twice_is_written_once(tmp_path: Path) -> None:
    """A killed process of the node does not know of its last second what was received."""
    log, there = tmp_path / "a.log", tmp_path / "there"
    there.mkdir()
    one, logs = Receiver(tmp_path), NodeLogs(there)
    log.write_bytes(b"first\n")
    one.spool.add("a")
    one.spool.turn()
    noted = one.spool.positions()  # and nothing is received by then
    with log.open("ab") as file:
        file.write(b"second\n")
    one.spool.turn()
    two = Receiver(tmp_path)
    two.spool = LogSpool(tmp_path, two._send, *noted, 1 << 20)
    two.spool.add("a")
    with log.open("ab") as file:
        file.write(b"third\n")
    two.spool.turn()

    for chunk in (*one.chunks, *two.chunks):
        logs.append(chunk, "box", b"home")
    assert (there / "a.log").read_bytes() == b"first\nsecond\nthird\n"
    logs.append(two.chunks[-1], "box", b"another home")
    assert (there / "a.log").read_bytes().count(b"third") == 2


def test_a_file_without_holes_is_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all of it was received; the worker goes on at its begin, and each line arrives once."""
    monkeypatch.setattr(LogSpool, "_punch", lambda *_: False)
    one, log, there = Receiver(tmp_path, 2 << 20), tmp_path / "a.log", tmp_path / "there"
    there.mkdir()
    logs, line = NodeLogs(there), b"x" * 1023 + b"\n"
    one.spool.add("a")
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    largest = 0
    for _ in range(60):
        os.write(descriptor, line * 100)
        one.spool.turn()
        one.spool.acknowledge(len(one.sent))
        one.spool.turn()
        largest = max(largest, log.stat().st_size)
    os.close(descriptor)
    for chunk in one.chunks:
        logs.append(chunk, "box", b"home")
    assert (there / "a.log").read_bytes() == line * 6000
    assert largest < 3 << 20


def test_a_file_without_holes_that_grows_faster_is_emptied_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not sent is counted as dropped."""
    monkeypatch.setattr(LogSpool, "_punch", lambda *_: False)
    one, log = Receiver(tmp_path, 1 << 20), tmp_path / "a.log"
    one.spool.add("a")
    for _ in range(200):
        with log.open("ab") as file:
            file.write(b"x" * 100_000)
        one.spool.turn()
        one.spool.acknowledge(len(one.sent) - 1)  # there is always something on its way
        assert log.stat().st_size < 4 << 20
