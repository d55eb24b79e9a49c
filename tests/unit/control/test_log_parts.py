"""Reading a log for an operator: what follows a mark, also where the file was cut."""

from pathlib import Path

import pytest

from garrison.supervisor.control.commands import logs
from garrison.supervisor.control.commands.logs import read_part


@pytest.mark.parametrize(
    ("content", "after", "mark", "data", "end", "gap"),
    [
        (b"one\ntwo\n", 0, b"", b"one\ntwo\n", 8, False),
        (b"one\ntwo\n", 4, b"one\n", b"two\n", 8, False),
        (b"one\ntwo\n", 8, b"two\n", b"", 8, False),
        (b"two\nthree\n", 8, b"two\n", b"three\n", 10, False),  # the first line was cut away
        (b"new\n", 8, b"two\n", b"new\n", 4, True),  # replaced
        (b"", 8, b"two\n", b"", 0, True),
        (b"0123456789abcdefghij", 0, b"", b"456789abcdefghij", 20, False),  # its end
        (b"0123456789abcdefghij", 2, b"01", b"23456789abcdefgh", 18, False),  # a chunk
    ],
)
def test_what_follows_a_mark_is_returned(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    after: int,
    mark: bytes,
    data: bytes,
    end: int,
    gap: bool,
) -> None:
    """Nothing is returned twice; what is missing is reported as a gap."""
    monkeypatch.setattr(logs, "CHUNK_BYTES", 16)
    path = tmp_path / "a.log"
    path.write_bytes(content)

    assert read_part(path, after, mark) == {"data": data, "end": end, "gap": gap}


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A log that was replaced by a link to another file shows nothing of that file."""
    (tmp_path / "secret").write_text("s3cret")
    (tmp_path / "a.log").symlink_to(tmp_path / "secret")

    with pytest.raises(OSError, match="symbolic links"):
        read_part(tmp_path / "a.log", 0, b"")
