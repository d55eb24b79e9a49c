"""The change of a data folder's owner: all files of the former owner, and no others."""

import os
from pathlib import Path

import pytest

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import WorkerLimits
from garrison.workers.process.sandbox import chown_data_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
FORMER, NEXT = 54331, 54332


def limits(uid: int) -> WorkerLimits:
    """Return the limits of a service of a user."""
    return WorkerLimits(uid=uid, gid=uid, groups=(uid,)) if uid >= 0 else WorkerLimits()


def owners(folder: Path) -> dict[str, int]:
    """Return the owners of a folder and of everything in it."""
    found = {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}
    return {**found, ".": folder.stat().st_uid}


def filled(folder: Path) -> Path:
    """Create a former user's data folder, with links that could do harm."""
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


def test_it_is_created_for_its_user_alone(tmp_path: Path) -> None:
    """The folders above it keep their owners."""
    folder = tmp_path / "services" / "one"
    chown_data_folder(str(folder), limits(FORMER))
    assert owners(folder) == {".": FORMER}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert folder.parent.stat().st_uid == 0


@pytest.mark.parametrize("to", [NEXT, -1])
def test_its_owner_changes(tmp_path: Path, to: int) -> None:
    """To the next user, or back to the host's. No link is followed, and files with several hard
    links keep their owner."""
    folder = filled(tmp_path / "one")
    chown_data_folder(str(folder), limits(to))
    uid = max(to, 0)
    theirs = {".", "file", "deep", "deep/er", "deep/er/file", "link", "tree", "gone", "pipe"}
    kept = {"hard": 0, "also": FORMER, "left by root": 0}
    assert owners(folder) == {**dict.fromkeys(theirs, uid), **kept}
    assert owners(tmp_path / "outside") == {".": 0, "roots": 0, "formers": FORMER}


def test_a_link_in_its_place_is_an_error(tmp_path: Path) -> None:
    """Any user may have created it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "one").symlink_to("elsewhere")
    with pytest.raises(PermanentFailure, match="cannot be changed to user 54332"):
        chown_data_folder(str(tmp_path / "one"), limits(NEXT))
    assert (tmp_path / "elsewhere").stat().st_uid == 0


def test_the_hosts_own_folder_stays(tmp_path: Path) -> None:
    """Without a user, no folder is created, and one of the home's owner is unchanged."""
    chown_data_folder(str(tmp_path / "one"), limits(-1))
    assert not (tmp_path / "one").exists()
    os.chown(tmp_path, FORMER, FORMER)
    (tmp_path / "one").mkdir()
    os.chown(tmp_path / "one", FORMER, FORMER)
    chown_data_folder(str(tmp_path / "one"), limits(-1))
    assert owners(tmp_path / "one") == {".": FORMER}
