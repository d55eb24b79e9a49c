"""How many batches a worker has read, kept where its SIGKILL cannot lose it."""

import os
import signal
from pathlib import Path

from garrison.ipc import batches_read
from garrison.ipc.batches_read import SENDERS, SIZE
from garrison.ipc.flight_recorder import Recorder, ValueRecorder
from garrison.ipc.socket_paths import new_token

ADA, BOB = new_token(), new_token()


def test_batches_are_counted_by_sender(tmp_path: Path) -> None:
    """Beside recorded calls, with and without their values."""
    for number, kind in enumerate((Recorder, ValueRecorder)):
        path = tmp_path / f"{number}.flight"
        recorder = kind(str(path))
        for sender in (ADA, BOB, ADA):
            recorder.batches.add(sender)
        recorder.close()

        assert batches_read.read(path) == {ADA: 2, BOB: 1}


def test_a_kill_loses_none(tmp_path: Path) -> None:
    """The kernel has what was written to the map."""
    path = tmp_path / "a.flight"
    child = os.fork()
    if not child:
        recorder = Recorder(str(path))
        for _ in range(1000):
            recorder.batches.add(ADA)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)

    assert batches_read.read(path) == {ADA: 1000}


def test_an_ended_sender_gives_its_place_up(tmp_path: Path) -> None:
    """Programs come and go, each under a new token, for as long as a worker lives."""
    path = tmp_path / "a.flight"
    recorder = Recorder(str(path))
    for _ in range(3 * SENDERS):
        recorder.batches.add(gone := new_token())
        recorder.caller_ended(gone)
    recorder.batches.add(ADA)

    assert batches_read.read(path) == {ADA: 1}


def test_with_another_router_the_count_begins_anew(tmp_path: Path) -> None:
    """It is compared with what that router sent."""
    path = tmp_path / "a.flight"
    recorder = Recorder(str(path))
    recorder.batches.add(ADA)
    recorder.batches.clear()
    recorder.batches.add(BOB)

    assert batches_read.read(path) == {BOB: 1}


def test_with_more_senders_than_places_nothing_is_known(tmp_path: Path) -> None:
    """A count that is too low would run a call twice."""
    path = tmp_path / "a.flight"
    recorder = Recorder(str(path))
    for _ in range(SENDERS):
        recorder.batches.add(new_token())
    assert len(batches_read.read(path) or ()) == SENDERS

    recorder.batches.add(ADA)

    assert batches_read.read(path) is None


def test_a_file_without_the_table_is_unknown(tmp_path: Path) -> None:
    """The file is missing, cut, or of an older release."""
    path = tmp_path / "a.flight"
    assert batches_read.read(path) is None
    path.write_bytes(bytes(SIZE - 1))
    assert batches_read.read(path) is None
    path.write_bytes(bytes(2 * SIZE))
    assert batches_read.read(path) is None
