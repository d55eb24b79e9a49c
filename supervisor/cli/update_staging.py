"""Makes and proves the new environment of an update; nothing that runs is touched by it."""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from garrison.ipc.errors import OrderFailed
from garrison.supervisor.processes.inquiry import InterpreterProblem, ask
from garrison.supervisor.update.data import size_of
from garrison.supervisor.update.environment import SPARE_BYTES, python_of, versions_of

from .update_packages import (
    CHECK_S,
    build,
    install,
    link_environment,
    run,
    versions_in,
    wheel_version,
)

GARRISON = "garrison"


@dataclass(frozen=True, slots=True)
class Sources:
    """What an update installs."""

    garrison: Path | None  # a wheel or a checkout; None: the same version again
    plugins: Mapping[str, Path]  # plugin → a wheel or a folder
    index: str  # an address, or "default"; empty: none is used

    @property
    def all(self) -> list[Path]:
        """Return all wheels and folders."""
        own = [] if self.garrison is None else [self.garrison]
        return [*own, *self.plugins.values()]


def check_sources(sources: Sources) -> None:
    """Raise OrderFailed for a source that cannot be one, before anything is made."""
    for path in sources.all:
        if path.is_file():
            name, _ = wheel_version(path)
            if path == sources.garrison and name != GARRISON:
                raise OrderFailed("usage", f"{path} is {name}, not garrison: use --plugin")
        elif not any((path / name).is_file() for name in ("pyproject.toml", "setup.py")):
            raise OrderFailed("usage", f"{path} is neither a wheel nor a folder with a project")


def check_space(environment: Path, state: Path, sources: Sources) -> None:
    """Raise OrderFailed if a disk has too little room for the packages, the data or the backup."""
    packages = sum(path.stat().st_size for path in sources.all if path.is_file())
    data = size_of(state / "services")
    for folder, needed in ((environment.parent, 6 * packages + 2 * data), (state, data)):
        free = shutil.disk_usage(folder).free
        if free < needed + SPARE_BYTES:
            raise OrderFailed(
                "failed",
                f"{folder} has {free / 1e6:,.0f} MB free, and the update needs up to "
                f"{(needed + SPARE_BYTES) / 1e6:,.0f} MB there: make room; nothing was changed",
            )


def make_environment(
    environment: Path, current: Path, staged: Path, sources: Sources, show: Callable[[str], None]
) -> None:
    """Make the environment of the new version beside the running one.

    Raises:
        OrderFailed: A package cannot be built or installed, or lacks a dependency.
        OSError: It cannot be written.
    """
    link_environment(current, staged, lambda name: show(f"environment: {name}"))
    with tempfile.TemporaryDirectory(prefix="build-", dir=versions_of(environment)) as folder:
        wheels = []
        for path in sources.all:
            show(f"packages: {path.name}")
            wheels.append(
                path
                if path.is_file()
                else build(staged, path.absolute(), Path(folder), sources.index)
            )
        links = dict.fromkeys(path.absolute().parent for path in sources.all if path.is_file())
        install(current, staged, environment, wheels, sources.index, list(links))


def changed_packages(current: Path, staged: Path) -> dict[str, tuple[str, str]]:
    """Return the distributions that differ: name → version before and after, empty for none."""
    before, after = versions_in(current), versions_in(staged)
    return {
        name: (before.get(name, ""), after.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }


def prove(current: Path, staged: Path, home: Path, configs: list[str]) -> None:
    """Have the new version show that it can run the config, and take over what runs.

    Raises:
        OrderFailed: It cannot.
    """
    python = python_of(staged)
    try:
        ask(python, os.environ, versions_in(staged).get(GARRISON, ""))
    except InterpreterProblem as error:
        text = f"the new version cannot take over from this one: {error}"
        raise OrderFailed("failed", f"{text.partition(': run ')[0]}. {ENDS}") from error
    words = [word for path in configs for word in ("--config", path)]
    code, output = _garrison(python, home, "check", *words)
    if code and not _garrison(python_of(current), home, "check", *words)[0]:
        problems = [line for line in output.splitlines() if line.strip()]
        shown = next((line for line in problems if line.startswith("error:")), problems[-1:])
        text = shown if isinstance(shown, str) else "".join(shown)
        raise OrderFailed("failed", f"garrison check of the new version: {text}")
    code, output = _garrison(python, home, "up", *words, "--prove")
    if code:
        last = (output.strip().splitlines() or [f"exit {code}"])[-1].removeprefix("error: ")
        raise OrderFailed("failed", f"the new version cannot take over: {last}")


ENDS = "Such a version is installed while the host is down: garrison down, pip install, garrison up"


def _garrison(python: str, home: Path, *words: str) -> tuple[int, str]:
    command = [python, "-P", "-m", "garrison.supervisor.cli", "--home", str(home), *words]
    return run(command, CHECK_S)
