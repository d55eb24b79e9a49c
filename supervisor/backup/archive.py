"""Writes and reads the archive: a compressed tar whose first file is the manifest."""

import contextlib
import hashlib
import io
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Self

import msgspec

from .manifest import MANIFEST, MANIFEST_MOST, BackupError, BackupFile, Manifest, read_manifest

CHUNK = 1024 * 1024
LONG_NAME_MOST = 64 * 1024
LEVEL = 4  # of gzip: half the time of its default, a tenth larger
BROKEN = (tarfile.TarError, EOFError, zlib.error, OSError)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_archive(
    file: Path, manifest: Manifest, folder: Path, update: Callable[[str], None] = lambda _: None
) -> None:
    """Write an archive in a folder, sync it, and rename it to a path.

    Args:
        file: The path.
        manifest: Of its files.
        folder: Where these are, on the disk of the path.
        update: Called with the name of what is written.

    Raises:
        OSError: It cannot be written; a former file is unchanged.
    """
    partial = folder / "archive.partial"
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as out:
            with tarfile.open(fileobj=out, mode="w:gz", compresslevel=LEVEL) as tar:
                data = msgspec.json.format(msgspec.json.encode(manifest))
                tar.addfile(_info(MANIFEST, len(data)), io.BytesIO(data))
                for one in manifest.files:
                    update(one.path)
                    with (folder / one.path).open("rb") as content:
                        tar.addfile(_info(one.path, one.size), content)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


class _Header(tarfile.TarInfo):
    """A header, whose long names are read into memory: these are bounded."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Read a header. Raises tarfile.ReadError: it announces a name that is none."""
        header = super().frombuf(buf, encoding, errors)
        if header.isreg() or header.size <= LONG_NAME_MOST:
            return header
        raise tarfile.ReadError(f"a header of {header.size:,} bytes")


class ArchiveReader:
    """Reads an archive once, from its beginning to its end. Use it as a context.

    Attributes:
        manifest: What it has.

    Raises:
        BackupError: It is none.
        OSError: It cannot be opened.
    """

    def __init__(self, file: Path) -> None:
        self._name = str(file)
        self._opened = file.open("rb")
        try:
            with self._explained():
                self._tar = tarfile.open(fileobj=self._opened, mode="r|gz", tarinfo=_Header)  # noqa: SIM115
                first = self._tar.next()
            if first is None or first.name != MANIFEST or not first.isreg():
                raise BackupError(f"{file} is no backup of garrison")
            if first.size > MANIFEST_MOST:
                raise BackupError(f"{file} has a manifest of {first.size:,} bytes, which is none")
            with self._explained():
                self.manifest = read_manifest(self._content(first).read(), self._name)
        except BaseException:
            self._opened.close()
            raise

    def extract(self, target_of: Callable[[str], Path]) -> Iterator[BackupFile]:
        """Write each file to where `target_of` says, and yield it once it has proved right.

        Raises:
            BackupError: A file is damaged, missing, or not in the manifest.
            OSError: It cannot be written.
        """
        for expected in self.manifest.files:
            with self._explained():
                member = self._tar.next()
            if member is None:
                raise self._damaged(f"{expected.path} is missing")
            is_right = member.isreg() and member.name == expected.path
            if not is_right or member.size != expected.size:
                raise self._damaged(f"{member.name[:200]!r} is not what its manifest names there")
            target = target_of(expected.path)
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._write(self._content(member), target) != expected.sha256:
                raise self._damaged(f"{expected.path} is not as it was saved")
            target.chmod(expected.mode)
            yield expected
        with self._explained():
            if self._tar.next() is not None:
                raise self._damaged("it has files that its manifest does not name")

    def _content(self, member: tarfile.TarInfo) -> IO[bytes]:
        content = self._tar.extractfile(member)
        assert content is not None  # it is a regular file
        return content

    def _write(self, content: IO[bytes], target: Path) -> str:
        hashed = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(target, flags, 0o600), "wb") as out:
            while True:
                with self._explained():
                    chunk = content.read(CHUNK)
                if not chunk:
                    break
                hashed.update(chunk)
                out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        return hashed.hexdigest()

    def _damaged(self, what: str) -> BackupError:
        return BackupError(f"{self._name} is damaged or cut off: {what}. Nothing was restored")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise self._damaged(str(error) or type(error).__name__) from None

    def __enter__(self) -> "ArchiveReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
