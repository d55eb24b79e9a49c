"""The list of those who were forgotten, on disk."""

from pathlib import Path

import pytest

from garrison.supervisor.state.forgotten import FILE, ForgottenStore


def test_it_outlasts_the_supervisor(tmp_path: Path) -> None:
    """Private, without an id that could be read, and with one salt for good."""
    store = ForgottenStore(tmp_path)
    assert store.tombstones.mark == 0
    store.add(("discord",), "1122334455")
    salt = store.tombstones.salt
    store.add(("telegram",), "77")

    later = ForgottenStore(tmp_path).tombstones
    assert later == store.tombstones
    assert later.salt == salt
    assert later.was_forgotten("discord", "1122334455")
    assert later.was_forgotten("telegram", "77")
    assert "1122334455" not in (tmp_path / FILE).read_text()
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600


def test_a_file_that_cannot_be_used_is_set_aside(tmp_path: Path) -> None:
    """The problem is kept in words; the next one begins a new list."""
    (tmp_path / FILE).write_text("{")
    store = ForgottenStore(tmp_path)

    assert store.tombstones.mark == 0
    assert "cannot be read" in store.problem
    store.add(("discord",), "42")
    assert ForgottenStore(tmp_path).tombstones.was_forgotten("discord", "42")


def test_what_cannot_be_written_is_not_said_to_be(tmp_path: Path) -> None:
    """The command fails before anything is erased."""
    store = ForgottenStore(tmp_path / "missing")

    with pytest.raises(OSError, match="No such file"):
        store.add(("discord",), "42")
    assert not store.tombstones.was_forgotten("discord", "42")
