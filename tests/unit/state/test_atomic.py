"""A file is there as a whole or not at all."""

from pathlib import Path

import pytest

from garrison.supervisor.state.atomic import write_atomic


@pytest.mark.parametrize("sync", [False, True])
def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path, sync: bool) -> None:
    """It is its user's alone, and nothing else is left in the folder."""
    file = tmp_path / "living.json"
    for content in (b"a longer first one", b"second"):
        write_atomic(file, content, sync)
        assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    """What was there still is, and no half of the new one."""
    taken = tmp_path / "living.json"
    (taken / "in it").mkdir(parents=True)
    with pytest.raises(OSError, match="living"):
        write_atomic(taken, b"{}")
    assert list(tmp_path.iterdir()) == [taken]
