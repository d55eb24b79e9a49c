"""What a backup says of itself: its files and hashes, versions, needs (pure). Sizes are bytes."""

from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

import msgspec

from garrison.ipc.errors import GarrisonError

FORMAT = 1
MANIFEST = "manifest.json"
MANIFEST_MOST = 64 * 1024 * 1024
CONFIG, HOME, OUTSIDE = "config", "home", "outside"  # folders in the archive
FILES_MOST = 1_000_000


class BackupError(GarrisonError):
    """The backup cannot be made, or used; the text says why and what to do."""

    code = "failed"


class BackupFile(msgspec.Struct, frozen=True):
    """One file in the archive."""

    path: str  # in the archive, such as "home/state/services/agent/answers.db"
    size: int
    sha256: str
    mode: int = 0o600
    user: str = ""  # whose it is, where that is not the host's own user


class Needs(msgspec.Struct, frozen=True):
    """What another machine needs that is not in the archive."""

    packages: tuple[str, ...] = ()  # "name==version"
    secrets: dict[str, str] = {}  # name → where the config has it from
    users: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()  # that the config names and the archive has not
    databases: tuple[str, ...] = ()  # of servers, without passwords


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The first file of the archive."""

    format: int = FORMAT
    garrison: str  # its version
    python: str
    made_at: str  # UTC
    machine: str  # the host's name
    running: bool  # whether the host ran
    held_s: float = 0.0  # how long its services were held
    config: str  # the config's name in the folder `config`
    folder: str  # where that folder was
    home: str  # where the home was
    services: tuple[str, ...]  # NAMEs
    commands: tuple[str, ...] = ()  # of these, the plain commands, which cannot be paused
    with_secrets: bool = False
    damaged: tuple[str, ...] = ()  # files that were damaged in the home already
    left_out: tuple[str, ...] = ()  # with the reason
    needs: Needs = Needs()
    files: tuple[BackupFile, ...] = ()

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(one.size for one in self.files)


def read_manifest(data: bytes, name: str) -> Manifest:
    """Return a manifest.

    Args:
        data: Its JSON.
        name: What errors call the archive.

    Raises:
        BackupError: It is none, or of a later format, or names files that could lie elsewhere.
    """
    try:
        found = msgspec.json.decode(data)
        made = int(found["format"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        raise BackupError(f"{name} is no backup of garrison: its manifest is unreadable") from None
    if made > FORMAT:
        raise BackupError(
            f"{name} has format {made}, and this garrison reads up to {FORMAT}: install the "
            f"version that made it, {str(found.get('garrison', '?'))[:40]}"
        )
    try:
        manifest = msgspec.convert(found, Manifest)
    except msgspec.ValidationError as error:
        raise BackupError(f"{name} is damaged: its manifest has {error}") from None
    check_paths(manifest, name)
    return manifest


def check_paths(manifest: Manifest, name: str) -> None:
    """Raise BackupError if a file would lie outside a backup's folders, or is there twice."""
    paths = [one.path for one in manifest.files]
    if len(paths) > FILES_MOST or len(set(paths)) != len(paths):
        raise BackupError(f"{name} is damaged: it names a file twice, or too many")
    for path in (*paths, f"{CONFIG}/{manifest.config}"):
        if not is_inside(path):
            raise BackupError(f"{name} names {path[:200]!r}, which leads out of it; it is not used")
    for one in manifest.files:
        if one.size < 0 or one.mode & ~0o777:
            raise BackupError(f"{name} is damaged: size or mode of {one.path[:200]!r}")


def is_inside(path: str) -> bool:
    """Return True for a path in one of the archive's folders that leads out of none."""
    parts = path.split("/")
    plain = all(part not in {"", ".", ".."} and "\0" not in part for part in parts)
    return plain and len(parts) > 1 and parts[0] in {CONFIG, HOME, OUTSIDE}


def outside_path(path: str) -> str:
    """Return the archive's path of a file that is not in the config's folder."""
    return str(PurePosixPath(OUTSIDE, *PurePosixPath(path).parts[1:]))


def version_problem(made_with: str, installed: str) -> str:
    """Return why a backup of one version cannot be used by another; empty if it can."""
    if _numbers(made_with) <= _numbers(installed):
        return ""
    return (
        f"it was made with garrison {made_with}, and {installed} is installed, which does not know "
        f"what later versions write: install garrison {made_with} or a later one"
    )


def _numbers(version: str) -> tuple[int, ...]:
    found = list[int]()
    for part in version.split("+")[0].split("."):
        digits = "".join(char for char in part if char.isdigit())
        if not part[:1].isdigit():
            break
        found.append(int(digits))
    return tuple(found)


def missing_packages(needed: Iterable[str], installed: Collection[str]) -> list[str]:
    """Return the packages that are not installed in the version of the backup."""
    return [one for one in needed if one not in installed]
