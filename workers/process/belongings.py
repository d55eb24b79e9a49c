"""The data folder of a service whose process runs as another user than its launcher: made for that
user, and handed over with all that is in it where it was another's.

Runs as root, over files that a user could exchange meanwhile: nothing is followed, everything is
opened first and looked at then, and what is not the former owner's stays as it is.
"""

import contextlib
import os
import stat
from pathlib import Path

from garrison.ipc.errors import PermanentFailure
from garrison.ipc.messages import Limits

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
ANYTHING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def hand_over(data: str, limits: Limits) -> None:
    """Have a data folder be its user's: made now for another user, or taken back from a former one.

    Args:
        data: Its path; the folders above it are the host's own user's.
        limits: Whom the service runs as.

    Raises:
        PermanentFailure: It cannot be done; the text says why.
    """
    if not data or os.geteuid() != 0:
        return
    folder = Path(data)
    uid, gid = (limits.uid, limits.gid) if limits.uid >= 0 else (0, -1)
    try:
        if limits.uid >= 0:
            folder.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
        elif _is_as_made(folder):
            return
        _give(folder, uid, gid)
    except (OSError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise PermanentFailure(f"{folder} cannot be handed over to user {uid}: {reason}") from error


def _is_as_made(folder: Path) -> bool:
    """Tell whether a folder is not there, or is its host's: of root, or of whose home it is."""
    try:
        found = folder.stat(follow_symlinks=False)
    except FileNotFoundError:
        return True
    return found.st_uid in {0, folder.parent.stat().st_uid}


def _give(folder: Path, uid: int, gid: int) -> None:
    top = os.open(folder, FOLDER)
    try:
        found = os.fstat(top)
        if found.st_uid == uid:
            return
        for _, folders, files, inside in os.fwalk(dir_fd=top, follow_symlinks=False):
            for name in (*folders, *files):
                _give_one(name, inside, found, uid, gid)
        os.fchmod(top, 0o700)
        os.fchown(top, uid, gid)  # last: what is interrupted is begun again
    finally:
        os.close(top)


def _give_one(name: str, inside: int, top: os.stat_result, uid: int, gid: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        one = os.open(name, ANYTHING, dir_fd=inside)
        try:
            found = os.fstat(one)
            linked = found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode)  # also elsewhere
            if found.st_uid == top.st_uid and found.st_dev == top.st_dev and not linked:
                os.chown(f"/proc/self/fd/{one}", uid, gid)
        finally:
            os.close(one)
