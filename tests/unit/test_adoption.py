"""What is on disk outlives a supervisor, and what cannot be read is set aside by name."""

import os
import socket
import threading
from pathlib import Path

import msgspec
import pytest

from garrison.supervisor.adoption import FORMAT, Saved, end_former, load, save
from garrison.supervisor.launcher import Leave, encode

SAVED = Saved(stopped=["discord", "télé"], started=["nightly"])


def test_orders_come_back(tmp_path: Path) -> None:
    """What was written is read, and nothing else is left in the folder."""
    save(tmp_path, SAVED)

    assert load(tmp_path) == (SAVED, "")
    assert [file.name for file in tmp_path.iterdir()] == ["orders.json"]


def test_a_first_start_remembers_nothing(tmp_path: Path) -> None:
    """That there is no file is no problem."""
    assert load(tmp_path) == (Saved(), "")


def test_the_last_word_is_kept(tmp_path: Path) -> None:
    """Each writing takes the place of the one before."""
    save(tmp_path, SAVED)
    save(tmp_path, Saved(stopped=["chat"]))

    assert load(tmp_path)[0].stopped == ["chat"]


def test_a_writing_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is written whole to another name first."""
    save(tmp_path, SAVED)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path, Saved())

    assert load(tmp_path) == (SAVED, "")


def test_a_file_cut_at_any_byte_is_set_aside(tmp_path: Path) -> None:
    """The host starts without it; the problem names the file and where it went."""
    save(tmp_path, SAVED)
    whole = (tmp_path / "orders.json").read_bytes()
    for end in range(len(whole)):
        (tmp_path / "orders.json").write_bytes(whole[:end])

        saved, problem = load(tmp_path)

        assert saved == Saved()
        assert str(tmp_path / "orders.json") in problem
        assert "orders.damaged" in problem
        assert (tmp_path / "orders.damaged").read_bytes() == whole[:end]
        assert not (tmp_path / "orders.json").exists()
        assert load(tmp_path) == (Saved(), "")


@pytest.mark.parametrize(
    "content",
    [
        b"\x00" * 100,
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"x"',
        b'{"format": "1"}',
        b'{"format": null}',
        b'{"stopped": "discord"}',
        b'{"stopped": [1]}',
        b'{"stopped": ["\xff"]}',
        b'{"x": ' + b"[" * 100_000,
        b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda content: content[:20],
)
def test_a_file_of_anything_else_is_set_aside(tmp_path: Path, content: bytes) -> None:
    """Zeros after a power cut, other JSON, no JSON, JSON without an end."""
    (tmp_path / "orders.json").write_bytes(content)

    saved, problem = load(tmp_path)

    assert saved == Saved()
    assert "orders.damaged" in problem
    assert (tmp_path / "orders.damaged").read_bytes() == content


def test_a_folder_in_its_place_is_set_aside(tmp_path: Path) -> None:
    """Whatever it is that cannot be read."""
    (tmp_path / "orders.json").mkdir()

    assert "orders.damaged" in load(tmp_path)[1]
    save(tmp_path, SAVED)
    assert load(tmp_path) == (SAVED, "")


NEWER: list[dict[str, object]] = [
    {"format": FORMAT + 1, "stopped": ["discord"], "started": []},
    {"format": FORMAT + 1, "stopped": {"discord": {"since": 1}}, "started": []},
    {"format": FORMAT + 1},
]


@pytest.mark.parametrize("newer", NEWER)
def test_a_newer_format_is_named_and_kept(tmp_path: Path, newer: dict[str, object]) -> None:
    """After a step back to this version: its words may mean something else, so none is taken;
    and the newer version finds its file again, whatever this one writes meanwhile."""
    content = msgspec.json.encode(newer)
    (tmp_path / "orders.json").write_bytes(content)

    saved, problem = load(tmp_path)

    assert saved == Saved()
    assert f"format {FORMAT + 1}" in problem
    save(tmp_path, Saved())
    assert content in [file.read_bytes() for file in tmp_path.iterdir()]


def test_what_a_later_version_adds_is_passed_over(tmp_path: Path) -> None:
    """Within one format, a key that is not known does no harm."""
    content = {"format": FORMAT, "stopped": ["a"], "later": {"x": 1}}
    (tmp_path / "orders.json").write_bytes(msgspec.json.encode(content))

    assert load(tmp_path) == (Saved(stopped=["a"]), "")


# --- former launchers ---------------------------------------------------------------------


def test_nothing_former_is_nothing_to_end(tmp_path: Path) -> None:
    """A folder without sockets."""
    assert end_former(tmp_path) == 0


def test_a_socket_that_nobody_answers_is_removed(tmp_path: Path) -> None:
    """Its launcher is gone, and so are its workers."""
    path = tmp_path / "launcher-1.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one:
        one.bind(str(path))
    (tmp_path / "launcher-2.sock").write_text("no socket at all")
    (tmp_path / "control.sock").write_text("another's")

    assert end_former(tmp_path) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["control.sock"]


def test_a_former_launcher_is_told_to_leave_and_waited_for(tmp_path: Path) -> None:
    """It returns when the launcher has closed, that is, when its workers are gone."""
    path = tmp_path / "launcher-1.sock"
    heard: list[bytes] = []
    returned = threading.Event()
    early: list[bool] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def launcher() -> None:
            connection, _ = listener.accept()
            with connection:
                heard.append(connection.recv(65_536))
                connection.send(b"a report that nobody reads")
                early.append(returned.wait(0.2))

        thread = threading.Thread(target=launcher)
        thread.start()
        ended = end_former(tmp_path)
        returned.set()
        thread.join()

    assert (ended, heard, early) == (1, [encode(Leave(kill=True))], [False])
    assert not path.exists()
