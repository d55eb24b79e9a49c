"""Copies of files as of one moment, with files that change at the worst time."""

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from garrison.supervisor.backup import staging
from garrison.supervisor.backup.collecting import Found, Source
from garrison.supervisor.backup.manifest import BackupError
from garrison.supervisor.backup.staging import check_databases, stage


class Held:
    """Holds nothing; what happens at each hold is scripted."""

    def __init__(self, *script: Callable[[], object], disturbed: int = 0, lost: int = 0) -> None:
        self.script, self.disturbed, self.lost = list(script), disturbed, lost
        self.holds = self.ends = 0

    def begin(self) -> float:
        """Do the next thing of the script, as if just before everything stood still."""
        self.holds += 1
        if self.script:
            self.script.pop(0)()
        return 5.0

    def end(self) -> list[str] | None:
        """Report what is scripted."""
        self.ends += 1
        if self.holds <= self.lost:
            return None
        return ["bot"] if self.holds <= self.disturbed else []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder with a large and a small file that were written a while ago."""
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "large").write_bytes(b"1" * staging.EARLY_BYTES)
    (folder / "small").write_bytes(b"1")
    return folder


def finding(folder: Path) -> Callable[[], Found]:
    """Return what finds all files of a folder."""
    return lambda: Found([Source(path.name, path) for path in sorted(folder.iterdir())])


def test_what_changed_after_it_was_copied_is_copied_again(home: Path, tmp_path: Path) -> None:
    """Also where its size is the same; what was removed is removed from the copy."""

    def change() -> None:
        (home / "large").write_bytes(b"2" * staging.EARLY_BYTES)
        (home / "small").unlink()
        (home / "new").write_bytes(b"3")

    staged = stage(tmp_path / "copy", finding(home), Held(change))

    assert set(staged.files) == {"large", "new"}
    assert staged.path("large").read_bytes() == b"2" * staging.EARLY_BYTES
    assert {path.name for path in staged.folder.iterdir()} == {"large", "new"}


@pytest.mark.parametrize("held", [Held(disturbed=2), Held(lost=2)], ids=["disturbed", "lost"])
def test_a_hold_that_did_not_last_is_repeated(home: Path, tmp_path: Path, held: Held) -> None:
    """A service that was started meanwhile, or processes that went on too early."""
    staged = stage(tmp_path / "copy", finding(home), held)

    assert (held.holds, held.ends) == (3, 3)
    assert staged.held_s < 1.0


def test_what_never_stands_still_is_no_backup(home: Path, tmp_path: Path) -> None:
    """Nothing is made, and the services go on."""
    held = Held(disturbed=100)

    with pytest.raises(BackupError, match="garrison pause --all"):
        stage(tmp_path / "copy", finding(home), held)
    assert held.holds == held.ends


def test_services_go_on_when_a_copy_fails(home: Path, tmp_path: Path) -> None:
    """A file that cannot be read, for example."""
    held = Held(lambda: (home / "bad").symlink_to("large"))

    with pytest.raises(OSError, match="symbolic links"):
        stage(tmp_path / "copy", finding(home), held)
    assert held.ends == 1


def test_a_copied_database_has_what_was_in_its_log(tmp_path: Path) -> None:
    """One that is damaged in the home already is kept as it is, with its log."""
    home = tmp_path / "home"
    home.mkdir()
    db = sqlite3.connect(home / "good.db", isolation_level=None)
    db.execute("PRAGMA locking_mode = EXCLUSIVE")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE t (x)")
    db.execute("INSERT INTO t VALUES (42)")
    bad = staging.SQLITE + b"\x00" * 5000
    (home / "bad.db").write_bytes(bad)
    staged = stage(tmp_path / "copy", finding(home), Held())
    db.close()

    check_databases(staged)

    assert staged.damaged == ["bad.db"]
    assert staged.path("bad.db").read_bytes() == bad
    assert set(staged.files) == {"good.db", "bad.db"}
    assert {path.name for path in staged.folder.iterdir()} == {"good.db", "bad.db"}
    with sqlite3.connect(staged.path("good.db")) as copied:
        assert copied.execute("SELECT x FROM t").fetchall() == [(42,)]
    copied.close()


def test_a_file_that_was_just_written_is_not_believed(tmp_path: Path) -> None:
    """Its time may not show the next write."""
    home = tmp_path / "home"
    home.mkdir()
    path = home / "large"
    path.write_bytes(b"1" * staging.EARLY_BYTES)
    written = path.stat().st_mtime_ns

    def rewrite() -> None:
        path.write_bytes(b"2" * staging.EARLY_BYTES)
        os.utime(path, ns=(written, written))  # as a coarse clock would leave it

    staged = stage(tmp_path / "copy", finding(home), Held(rewrite))

    assert staged.path("large").read_bytes()[:1] == b"2"
