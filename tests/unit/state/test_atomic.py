"""A file is written completely or not at all."""

from pathlib import Path

import pytest

from garrison.supervisor.state.atomic import write_atomic


@pytest.mark.parametrize("sync", [False, True])
def test_a_new_file_replaces_the_old_one(tmp_path: Path, sync: bool) -> None:
    """It is private to its user, and no other file is left in the folder."""
    file = tmp_path / "living.json"
    for content in (b"a longer first one", b"second"):
        write_atomic(file, content, sync)
        assert file.read_bytes() == content
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    """The old file is unchanged, and there is no part of the new one."""
    taken = tmp_path / "living.json"
    (taken / "in it").mkdir(parents=True)
    with pytest.raises(OSError, match="living"):
        write_atomic(taken, b"{}")
    assert list(tmp_path.iterdir()) == [taken]
