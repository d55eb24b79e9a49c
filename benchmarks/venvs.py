"""Installs what is measured beside garrison, each in a virtual environment or npm folder."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

INSTALL_S = 900.0  # for one, download included


class NotInstalled(Exception):
    """Something that cannot be installed here; the text says why."""


class Venvs:
    """Folders of installed packages.

    Args:
        folder: Where they are made; what is there already is used as it is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    async def python(self, name: str, packages: Sequence[str]) -> str:
        """Return the Python of a virtual environment with these packages.

        Raises:
            NotInstalled: They cannot be installed.
        """
        folder = self._folder / name
        python, done = folder / "bin" / "python", folder / "installed"
        if not done.exists():
            await _run(sys.executable, "-m", "venv", str(folder))
            if packages:
                await _run(str(python), "-m", "pip", "install", "-q", "--no-input", *packages)
            done.touch()
        return str(python)

    async def npm(self, name: str, package: str) -> Path:
        """Return the folder with the programs of an npm package.

        Raises:
            NotInstalled: It cannot be installed, as without npm.
        """
        folder = self._folder / name
        done = folder / "installed"
        if not done.exists():
            folder.mkdir(parents=True, exist_ok=True)
            await _run("npm", "install", "--silent", "--no-fund", "--prefix", str(folder), package)
            done.touch()
        return folder / "node_modules" / ".bin"


async def _run(*command: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
    except OSError as error:
        raise NotInstalled(f"{command[0]}: {error}") from None
    try:
        async with asyncio.timeout(INSTALL_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise NotInstalled(f"{command[0]} took longer than {INSTALL_S:g} s") from None
    if process.returncode:
        last = output.decode(errors="replace").strip().splitlines()[-1:]
        raise NotInstalled(f"{' '.join(command[:4])} …: {' '.join(last)}")
