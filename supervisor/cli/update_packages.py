"""Makes an environment with the new packages beside the running one, and checks it.

Files of the running one are linked, not copied: pip replaces files, and never writes into one.
"""

import contextlib
import os
import shutil
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.placing.packages import canonical
from garrison.supervisor.update.environment import python_of

PIP_S = 600.0  # for one run of pip
CHECK_S = 120.0  # for a check of the config


def wheel_version(wheel: Path) -> tuple[str, str]:
    """Return the name and version of a wheel.

    Raises:
        OrderFailed: It is none.
    """
    try:
        with zipfile.ZipFile(wheel) as file:
            (name,) = (one for one in file.namelist() if one.endswith(".dist-info/METADATA"))
            found = HeaderParser().parsestr(file.read(name).decode("utf-8", "replace"))
            return canonical(found["Name"]), found["Version"]
    except (OSError, zipfile.BadZipFile, ValueError, AttributeError, TypeError) as error:
        raise OrderFailed("failed", f"{wheel} is no wheel: {error}") from error


def planned_version(source: Path) -> tuple[str, str]:
    """Return the name and version of a wheel, or of a checkout before it is built.

    A checkout that computes them has its folder's name, and "as built".

    Raises:
        OrderFailed: A file is no wheel.
    """
    if source.is_file():
        return wheel_version(source)
    try:
        project = tomllib.loads((source / "pyproject.toml").read_text("utf-8"))["project"]
        return canonical(str(project["name"])), str(project.get("version", "as built"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return source.name, "as built"


def link_environment(source: Path, target: Path, update: Callable[[str], None]) -> None:
    """Make a second environment of one: its files are linked.

    Scripts, `.pth` files and `pyvenv.cfg` are copied, because they may be written to.

    Raises:
        OSError: It cannot be made.
    """
    target.mkdir(mode=0o755, parents=True)
    for top, folders, names in os.walk(source):
        here = target / Path(top).relative_to(source)
        update(here.name)
        for name in list(folders):
            if (Path(top) / name).is_symlink():
                names.append(name)
                folders.remove(name)
            else:
                (here / name).mkdir()
        for name in names:
            _link(Path(top) / name, here / name, copies=Path(top).name == "bin")


def _link(source: Path, target: Path, copies: bool) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if not copies and source.suffix not in {".pth", ".cfg"}:
        with contextlib.suppress(OSError):  # another file system, or another owner's file
            os.link(source, target)
            return
    shutil.copy2(source, target)


def install(
    current: Path,
    staged: Path,
    environment: Path,
    wheels: Sequence[Path],
    index: str,
    links: Sequence[Path],
) -> None:
    """Install wheels into a new environment.

    Args:
        current: The running environment.
        staged: The new one.
        environment: The path that it will have.
        wheels: The wheels.
        index: Where dependencies are looked for: an address, or "default"; empty: nowhere.
        links: Folders that may have wheels of dependencies.

    Raises:
        OrderFailed: A wheel cannot be installed, or a dependency is missing.
    """
    files = [str(wheel) for wheel in wheels]
    if again := [str(wheel) for wheel in wheels if _is_installed(current, wheel)]:
        pip(staged, "install", "--no-index", "--no-deps", "--force-reinstall", *again)
    asks = ["--no-index"] if not index else [] if index == "default" else ["--index-url", index]
    found = [word for folder in links for word in ("--find-links", str(folder))]
    try:
        output = pip(staged, "install", *asks, *found, *files)
        if conflicts := _conflicts(output):
            raise OrderFailed("failed", conflicts[0])
    except OrderFailed as error:
        hint = "" if index else ". No package index was asked: add --index default, or put the "
        hint += "" if index else "wheels of what is missing beside the new one"
        raise OrderFailed("failed", f"{error}{hint}") from error
    _address_scripts(staged, environment)


def versions_in(environment: Path) -> dict[str, str]:
    """Return the distributions of an environment: name → version."""
    folders = [str(one) for one in environment.glob("lib/python3*/site-packages")]
    found = metadata.distributions(path=folders)
    return {canonical(one.metadata["Name"]): one.version for one in found if one.metadata["Name"]}


def _is_installed(environment: Path, wheel: Path) -> bool:
    """Return whether the version of a wheel is installed, which pip would leave as it is."""
    name, version = wheel_version(wheel)
    return versions_in(environment).get(name) == version


def _conflicts(output: str) -> list[str]:
    """Return what pip says of installed packages that the new ones do not fit."""
    ends = ("which is incompatible.", "which is not installed.")
    return [line.strip().rstrip(".") for line in output.splitlines() if line.strip().endswith(ends)]


def _address_scripts(staged: Path, environment: Path) -> None:
    """Have new scripts name the interpreter by the path that the environment will have."""
    own, later = (os.fsencode(one / "bin") + b"/" for one in (staged, environment))
    for script in (staged / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        head, line, rest = content.partition(b"\n")
        if head.startswith(b"#!") and own in head:
            script.write_bytes(head.replace(own, later) + line + rest)


def build(staged: Path, folder: Path, target: Path, index: str) -> Path:
    """Return the wheel of a folder with a project, built in a new environment.

    Raises:
        OrderFailed: It cannot be built.
    """
    if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise OrderFailed("failed", f"{folder} is no project: it has no pyproject.toml")
    before = set(target.glob("*.whl"))
    words = ["wheel", "--no-deps", "--wheel-dir", str(target), str(folder)]
    if not index:
        words += ["--no-index", "--no-build-isolation"]
    elif index != "default":
        words += ["--index-url", index]
    try:
        pip(staged, *words)
    except OrderFailed as error:
        hint = (
            ""
            if index
            else f". No package index was asked: install what builds {folder.name} "
            "(its build-system.requires) here, add --index default, or name a wheel"
        )
        raise OrderFailed("failed", f"{folder} cannot be built: {error}{hint}") from error
    return next(iter(set(target.glob("*.whl")) - before))


def pip(staged: Path, *words: str) -> str:
    """Run the pip of an environment, and return its output.

    Raises:
        OrderFailed: It has failed; with its last error.
    """
    code, output = run(_pip(staged, *words), PIP_S)
    if code:
        lines = [one.strip() for one in output.splitlines() if one.strip()]
        errors = [one for one in lines if one.startswith("ERROR:")]
        last = (errors or lines or [f"exit {code}"])[0 if errors else -1].removeprefix("ERROR: ")
        raise OrderFailed("failed", f"pip {words[0]}: {last}")
    return output


def _pip(environment: Path, *words: str) -> list[str]:
    return [python_of(environment), "-P", "-m", "pip", "--disable-pip-version-check", *words]


def run(command: Sequence[str], limit: float) -> tuple[int, str]:
    """Run a command of another environment; return its exit code and output.

    Raises:
        OrderFailed: It takes longer than `limit` seconds, or cannot be started.
    """
    try:
        done = subprocess.run(
            command,
            env=_environ(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        text = f"{command[0]} did not end within {limit:g} s"
        raise OrderFailed("timed_out", text) from error
    except OSError as error:
        raise OrderFailed("failed", f"{command[0]} cannot be run: {error.strerror}") from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would mix two of Python."""
    names = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    kept = {key: value for key, value in environ.items() if key not in names}
    return {**kept, "PIP_NO_INPUT": "1"}
