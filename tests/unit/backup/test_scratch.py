"""Folders for work in progress."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from garrison.supervisor.backup.scratch import scratch_folder

LEAVES = """
import os, sys
from pathlib import Path
from garrison.supervisor.backup.scratch import scratch_folder
with scratch_folder(".x-", Path(sys.argv[1])) as folder:
    (folder / "sub").mkdir()
    (folder / "sub" / "file").touch()
    os._exit(0)
"""


def names(folder: Path) -> set[str]:
    """Return what is in a folder."""
    return {path.name for path in folder.iterdir()}


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """By the next one; what another process works in, and what others own, stays."""
    subprocess.run([sys.executable, "-c", LEAVES, str(tmp_path)], check=True)
    (left,) = names(tmp_path)
    (tmp_path / ".x-link").symlink_to("/")
    (tmp_path / ".x-file").touch()
    with scratch_folder(".x-", tmp_path) as one, scratch_folder(".x-", tmp_path) as other:
        assert names(tmp_path) == {".x-link", ".x-file", one.name, other.name}
        assert left not in names(tmp_path)
        assert one.stat().st_mode & 0o777 == 0o700
    assert names(tmp_path) == {".x-link", ".x-file"}


def test_a_folder_that_another_process_took_for_abandoned_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was removed, or is locked, between its making and its own lock."""
    opened, removed = os.open, list[Path]()

    def disturbed(path: Path, flags: int, *, dir_fd: int | None = None) -> int:
        if not removed:
            removed.append(Path(path))
            Path(path).rmdir()
        return opened(path, flags, dir_fd=dir_fd)

    monkeypatch.setattr("garrison.supervisor.backup.scratch.os.open", disturbed)
    with scratch_folder(".x-", tmp_path) as folder:
        assert folder.is_dir()
        assert removed != [folder]
