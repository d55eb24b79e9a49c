"""The built wheel and sdist: what they hold, and that the installed wheel works.

pip fetches the build backend and the dependencies for that.
"""

import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

pytestmark = pytest.mark.external

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def ran(*words: str | Path, cwd: Path) -> str:
    """Run a command and return its output."""
    done = subprocess.run(
        words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def environment(folder: Path, *packages: str | Path) -> Path:
    """Make a fresh environment with these packages; return its folder of programs."""
    ran(sys.executable, "-m", "venv", "--without-pip", folder, cwd=ROOT)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    ran(*pip, "install", "-q", "--disable-pip-version-check", *packages, cwd=ROOT)
    return folder / "bin"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from what that unpacks to."""
    folder = tmp_path_factory.mktemp("built")
    hatchling = (environment(folder / "tools", "hatchling") / "python", "-m", "hatchling", "build")
    dist = folder / "dist"
    ran(*hatchling, "-t", "sdist", "-d", dist, cwd=ROOT)
    with tarfile.open(only(dist.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    ran(*hatchling, "-t", "wheel", "-d", dist, cwd=only(folder.glob("garrison-*")))
    return dist


def of_checkout(pattern: str) -> set[str]:
    """Return the paths of files in the checkout's packages and in its docs, without caches."""
    return {
        str(path.relative_to(ROOT))
        for room in ("ipc", "supervisor", "workers", "docs")
        for path in (ROOT / room).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }


def only(paths: Iterable[Path]) -> Path:
    """Return the one path that there is."""
    (path,) = paths
    return path


def test_the_wheel_holds_every_file_as_a_file(built: Path) -> None:
    """The links in .src are gone: code, data and docs are below garrison/."""
    with zipfile.ZipFile(only(built.glob("*.whl"))) as wheel:
        held = {name.removeprefix("garrison/") for name in wheel.namelist()}

    assert of_checkout("*") <= held


def test_the_sdist_holds_no_link(built: Path) -> None:
    """So that it unpacks everywhere."""
    with tarfile.open(only(built.glob("*.tar.gz"))) as sdist:
        members = sdist.getmembers()

    assert members
    assert not [member.name for member in members if not (member.isfile() or member.isdir())]


@pytest.fixture(scope="module")
def garrison(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Install the wheel into a fresh environment; return what runs its command line."""
    folder = tmp_path_factory.mktemp("installed")
    programs = environment(folder / "env", only(built.glob("*.whl")))
    return lambda *words: ran(programs / "garrison", *words, cwd=folder)


def test_the_installed_wheel_shows_its_version_config_and_docs(
    garrison: Callable[..., str],
) -> None:
    """Nothing of it is read from a checkout."""
    assert garrison("--version") == f"garrison {PROJECT['version']}\n"
    assert "host" in tomllib.loads(garrison("config"))
    assert "reference/cli" in garrison("docs")
    assert garrison("docs", "cli") == (ROOT / "docs/reference/cli.md").read_text("utf-8")


def test_the_installed_wheel_runs_what_init_writes(garrison: Callable[..., str]) -> None:
    """From an empty folder to a greeting."""
    garrison("init", "bot")
    assert "hello" in garrison("check", "-c", "bot/config.toml")
    home = ("--home", "bot/h")
    garrison("up", "-c", "bot/config.toml", *home, "--detach")
    try:
        assert garrison("call", "hello", "greet", "Ada", *home) == "Hello, Ada!\n"
        rows = json.loads(garrison("status", *home, "--json"))["data"]["services"]
        assert {row["state"] for row in rows} == {"running"}
    finally:
        garrison("down", *home)
