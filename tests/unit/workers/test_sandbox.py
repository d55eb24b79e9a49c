"""A data folder changes hands: all that is its former owner's, and nothing else anywhere."""

import os
from pathlib import Path

import pytest

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import Limits
from garrison.workers.process.sandbox import chown_data_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
FORMER, NEXT = 54331, 54332


def limits(uid: int) -> Limits:
    """Return what makes a worker a user's."""
    return Limits(uid=uid, gid=uid, groups=(uid,)) if uid >= 0 else Limits()


def owners(folder: Path) -> dict[str, int]:
    """Return who owns what is in a folder, and it."""
    found = {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}
    return {**found, ".": folder.stat().st_uid}


def filled(folder: Path) -> Path:
    """Make a former user's data folder, with what that user may have put there to do harm."""
    chown_data_folder(str(folder), limits(FORMER))
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("file", "deep/er/file"):
        (folder / name).write_text("data")
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "roots").write_text("secret")
    (folder / "link").symlink_to(outside / "roots")
    (folder / "tree").symlink_to(outside)
    (folder / "gone").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    for path in folder.rglob("*"):
        os.chown(path, FORMER, FORMER, follow_symlinks=False)
    os.link(outside / "roots", folder / "hard")  # where links to others' files are not forbidden
    (outside / "formers").write_text("elsewhere")
    os.chown(outside / "formers", FORMER, FORMER)
    os.link(outside / "formers", folder / "also")
    (folder / "left by root").write_text("")
    return folder


def test_it_is_made_for_its_user_alone(tmp_path: Path) -> None:
    """With what is above it as it was."""
    folder = tmp_path / "services" / "one"
    chown_data_folder(str(folder), limits(FORMER))
    assert owners(folder) == {".": FORMER}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_uid == 0


@pytest.mark.parametrize("to", [NEXT, -1])
def test_it_is_handed_over(tmp_path: Path, to: int) -> None:
    """To the next user, or back to the host's own; no link is followed, and what has a second name
    elsewhere stays whose it is."""
    folder = filled(tmp_path / "one")
    chown_data_folder(str(folder), limits(to))
    uid = max(to, 0)
    theirs = {".", "file", "deep", "deep/er", "deep/er/file", "link", "tree", "gone", "pipe"}
    kept = {"hard": 0, "also": FORMER, "left by root": 0}
    assert owners(folder) == {**dict.fromkeys(theirs, uid), **kept}
    assert owners(tmp_path / "outside") == {".": 0, "roots": 0, "formers": FORMER}


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    """However it came there."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "one").symlink_to("elsewhere")
    with pytest.raises(PermanentFailure, match="cannot be changed to user 54332"):
        chown_data_folder(str(tmp_path / "one"), limits(NEXT))
    assert (tmp_path / "elsewhere").stat().st_uid == 0


def test_what_was_nobody_elses_stays(tmp_path: Path) -> None:
    """A service without a user needs no folder; one that is of whose home it is is as it was."""
    chown_data_folder(str(tmp_path / "one"), limits(-1))
    assert not (tmp_path / "one").exists()
    os.chown(tmp_path, FORMER, FORMER)
    (tmp_path / "one").mkdir()
    os.chown(tmp_path / "one", FORMER, FORMER)
    chown_data_folder(str(tmp_path / "one"), limits(-1))
    assert owners(tmp_path / "one") == {".": FORMER}
