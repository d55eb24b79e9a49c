"""What a node sends of the logs of its workers."""

import os
from pathlib import Path

import pytest

from garrison.supervisor.node import spool
from garrison.supervisor.node.spool import LogSpool


class Receiver:
    """Takes chunks, and acknowledges on order."""

    def __init__(self, folder: Path, most: int = 1 << 20) -> None:
        self.sent: list[tuple[str, bytes, int]] = []
        self.spool = LogSpool(folder, self._send, {}, most)

    def _send(self, log: str, data: bytes, dropped: int) -> int:
        self.sent.append((log, data, dropped))
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
    two.spool = LogSpool(tmp_path, two._send, one.spool.positions(), 1 << 20)
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
