"""What a node's process finds of the one before it."""

import shutil
from pathlib import Path

import pytest

from garrison.supervisor.node import home as homes
from garrison.supervisor.node.home import NodeHome


def opened(path: Path, lease: float = 0.0) -> tuple[bytes, bool]:
    """Open a home, leave it, and return its instance and whether it was new."""
    home = NodeHome(path)
    home.memory.lease = lease or home.memory.lease
    home.save()
    home.close()
    return home.instance, home.is_new


def test_the_next_process_is_the_same_node(tmp_path: Path) -> None:
    """What it finds is its own."""
    first, was_new = opened(tmp_path / "h")
    assert was_new
    assert opened(tmp_path / "h") == (first, False)


def test_a_copy_of_a_home_is_another_node(tmp_path: Path) -> None:
    """Both would run the same services otherwise, in turn in contact with the supervisor."""
    first, _ = opened(tmp_path / "h")
    shutil.copytree(tmp_path / "h", tmp_path / "copy")
    instance, is_new = opened(tmp_path / "copy")
    assert is_new
    assert instance != first


def test_a_home_is_new_after_a_restart_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times are by a clock that has begun anew, and its processes are gone."""
    boot = tmp_path / "boot"
    boot.write_text("first\n")
    monkeypatch.setattr(homes, "BOOT", boot)
    first, _ = opened(tmp_path / "h", lease=7.0)
    boot.write_text("second\n")
    home = NodeHome(tmp_path / "h")
    assert home.is_new
    assert home.instance != first
    assert home.memory.lease == 0.0
    home.close()


def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    """What cannot be written is noted, and written later."""
    home = NodeHome(tmp_path / "h")
    (tmp_path / "h" / "state").rename(tmp_path / "away")
    home.save()
    assert "node.json cannot be written" in home.problem
    (tmp_path / "away").rename(tmp_path / "h" / "state")
    home.save()
    assert not home.problem
    home.close()
