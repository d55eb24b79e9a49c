"""Venvs for tests, in milliseconds: they share the libraries of this one, and have own ones."""

import os
import sys
import sysconfig
from pathlib import Path

from tests.support.commands import ROOT


def make_venv(folder: Path, **modules: str) -> Path:
    """Make a venv with garrison in it; return its interpreter.

    Args:
        folder: Of the venv.
        modules: Modules of its own, which go before those that it shares: NAME → text.
    """
    base = Path(os.path.realpath(sys.executable))
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "pyvenv.cfg").write_text(f"home = {base.parent}\n")
    python = folder / "bin" / "python"
    python.symlink_to(base)
    shared = sysconfig.get_paths()["purelib"]
    (packages / "shared.pth").write_text(f"{shared}\n{ROOT / '.src'}\n")
    for name, text in modules.items():
        (packages / f"{name}.py").write_text(text)
    return python


def add_garrison(python: Path, version: str = "", wire: int = 0) -> None:
    """Put a garrison into a venv that only answers what it is, as another release would."""
    packages = next((python.parent.parent / "lib").glob("python3*/site-packages"))
    (packages / "shared.pth").unlink()
    for name, text in {
        "ipc/messages.py": f"WIRE = {wire}\n",
        "supervisor/processes/protocol.py": "VERSION = 1\n",
    }.items():
        path = packages / "garrison" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    for library in ("msgspec", "multiprocess", "psutil", "uvloop", "zmq"):
        (packages / f"{library}.py").write_text("")
    info = packages / f"garrison-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: garrison\nVersion: {version}\n")
