"""Environments and wheels for tests of updates, made in a second and without a package index."""

import base64
import hashlib
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.commands import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PLUGINS = "garrison.plugins"
MOODY = '''
"""A service of a version."""

import asyncio
import os
import sys
from pathlib import Path

from garrison.workers import Plugin, Service


class {Name}(Service):
    """Writes its version into its data folder."""

    service_type = "{name}"

    @classmethod
    async def start(cls, runtime):
        """Write, then run or not."""
        service = cls(runtime)
        with (runtime.data_folder / "versions").open("a") as file:
            file.write("{version}\\n")
        mood = "{mood}"
        if mood == "refuses":
            raise RuntimeError("version {version} is not in the mood")
        if mood == "unwell":
            service.spawn(service.worsen())
        return service

    async def worsen(self):
        """Be unwell after a while."""
        await asyncio.sleep(1.0)
        self.unwell = True

    async def health(self):
        """Say how it is."""
        assert not getattr(self, "unwell", False), "it feels bad"
        return True

    async def about(self) -> list[str]:
        """Return its version and interpreter, and which versions have run."""
        ran = (self.runtime.data_folder / "versions").read_text().split()
        return ["{version}", sys.prefix, *ran]


plugin = Plugin("{name}", services=[{Name}])
'''


def garrison_wheel(folder: Path, version: str) -> Path:
    """Return a wheel of this checkout by another version."""
    files = {
        f"garrison/{room}/{path.relative_to(ROOT / room)}": path.read_bytes()
        for room in ("ipc", "supervisor", "workers")
        for path in sorted((ROOT / room).rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    scripts = "\n".join(f"{name} = {value}" for name, value in PROJECT["scripts"].items())
    plugins = "\n".join(
        f"{name} = {value}" for name, value in PROJECT["entry-points"][PLUGINS].items()
    )
    entries = f"[console_scripts]\n{scripts}\n\n[{PLUGINS}]\n{plugins}\n"
    return _write(folder, "garrison", version, files, entries, PROJECT["dependencies"])


def plugin_wheel(folder: Path, name: str, version: str, mood: str = "", needs: str = "") -> Path:
    """Return a wheel of a plugin.

    Args:
        folder: Where to.
        name: Of the plugin, its package and its service.
        version: Its version.
        mood: "refuses": it does not start; "unwell": it is unwell after a second.
        needs: What it depends on besides.
    """
    text = MOODY.format(name=name, Name=name.capitalize(), version=version, mood=mood)
    files = {f"{name}.py": text.encode()}
    entries = f"[{PLUGINS}]\n{name} = {name}:plugin\n"
    return _write(folder, name, version, files, entries, [needs] if needs else [])


def _write(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, bytes],
    entries: str,
    needs: list[str],
) -> Path:
    info = f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    head += "".join(f"Requires-Dist: {one}\n" for one in needs)
    tags = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    everything = {
        **files,
        f"{info}/METADATA": head.encode(),
        f"{info}/WHEEL": tags.encode(),
        f"{info}/entry_points.txt": entries.encode(),
    }
    record = "\n".join([*_records(everything), f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, content in {**everything, f"{info}/RECORD": record.encode()}.items():
            wheel.writestr(file, content)
    return path


def _records(files: Mapping[str, bytes]) -> Iterator[str]:
    for file, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        yield f"{file},sha256={digest.decode()},{len(content)}"


def environment(folder: Path, *wheels: Path) -> Path:
    """Make a virtual environment with wheels; libraries and pip are those of the tests' own."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    shared = Path(sysconfig.get_path("purelib"))
    for one in (shared / "pip", *shared.glob("pip-*.dist-info")):
        (packages / one.name).symlink_to(one)
    python = folder / "bin" / "python"
    command: list[str | Path] = [
        python,
        "-P",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "-q",
    ]
    subprocess.run(
        [*command, "--no-index", "--no-deps", *wheels],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    (packages / "shared.pth").write_text(f"{shared}\n")
    return folder
