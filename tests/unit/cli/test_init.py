"""The files that `garrison init` writes."""

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cli.test_front_door import Run
from tests.unit.cli.test_front_door import ran as ran

from garrison.ipc.messages import Manifest
from garrison.supervisor.cli.catalogue import InstalledPlugin, Library
from garrison.supervisor.cli.plugin_package import name_problem, package_files
from garrison.supervisor.cli.project import PRIVATE, project_files


def chosen(name: str, **fields: Any) -> InstalledPlugin:
    """Return a plugin."""
    given: dict[str, Any] = {"package": "garrison", "version": "1", "bundled": True} | fields
    return InstalledPlugin(name=name, **given)


RADIO = chosen(
    "radio",
    services=(Manifest("radio", "A radio", secrets={"RADIO_TOKEN": "https://radio.test"}),),
    libraries=(Library("radio-lib>=2", "radio", "MIT", "2.5"), Library("b>=1", "radio", "", "")),
)


def test_each_service_has_a_private_file_of_its_own() -> None:
    """A file of secrets has mode 600, states where to get each, and is kept out of git."""
    files = project_files("bot", [RADIO, chosen("agent"), chosen("plain")])
    config = tomllib.loads(files["config.toml"].text)

    assert {name for name, file in files.items() if file.mode == PRIVATE} == {".env.radio"}
    assert "# get it at https://radio.test\nRADIO_TOKEN=\n" in files[".env.radio"].text
    assert config["services"]["radio"]["env_file"] == ".env.radio"
    assert config["services"]["radio"]["secrets"] == ["RADIO_TOKEN"]
    assert list(config["plugins"]) == ["chat", "agent", "eliza", "mailbox", "radio", "plain"]
    assert "secrets" not in config["services"]["plain"]
    assert ".env*" in files[".gitignore"].text.splitlines()


def test_what_is_installed_is_pinned() -> None:
    """What is not installed is stated as the plugin does; a package of others by its version."""
    files = project_files("bot", [RADIO, chosen("far", package="far-plugin", bundled=False)])

    lines = files["requirements.txt"].text.splitlines()
    assert lines[1:] == ["pytest", "radio-lib==2.5", "b>=1", "far-plugin==1"]


@pytest.mark.parametrize(
    ("name", "usable"),
    [("weather", True), ("a1_b", True), ("Weather", False), ("1a", False), ("json", False),
     ("class", False), ("garrison", False), ("x-y", False), ("", False)],
)  # fmt: skip
def test_a_plugin_has_the_name_of_a_package(name: str, usable: bool) -> None:
    """It is a package, a service type and an entry point at once."""
    assert (name_problem(name) == "") is usable


def test_the_package_of_a_plugin_passes_its_own_test(tmp_path: Path) -> None:
    """What is written runs as it is."""
    for path, file in package_files("weather_now").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(file.text)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:simcord"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert "2 passed" in ran.stdout


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--with", "eliz", "bot"), "there is no plugin eliz; did you mean eliza?"),
        (("--with", ",", "bot"), "--with names no plugin"),
        (("--with", "eliza", "--plugin", "x", "bot"), "use one of them"),
        (("--plugin", "eliza"), "a plugin of this name is installed"),
        (("--plugin", "Aha"), "write it with lower-case letters"),
        ((), "name the directory to write"),
    ],
)
def test_a_mistake_writes_nothing(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], error: str
) -> None:
    """The error says what to write."""
    monkeypatch.chdir(tmp_path)
    code, _, err = ran("init", *words)

    assert code == 2
    assert error in err
    assert not list(tmp_path.iterdir())


def test_a_project_lacks_its_tokens_alone(
    ran: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` finds no error in it, and says where to get each token that is not there."""
    monkeypatch.chdir(tmp_path)
    code, _, _ = ran("init", "--with", "discord,openai", "bot")
    assert code == 0
    monkeypatch.chdir(tmp_path / "bot")
    Path(".env.openai").unlink()  # as in a fresh clone, which has none
    # A home of its own: sockets below the test's folder would have too long a path.
    with tempfile.TemporaryDirectory(prefix="h", dir="/tmp") as home:
        code, out, _ = ran("--home", home, "check", "--json")

    report = json.loads(out)["data"]
    lacking = " ".join(report["would_not_start"])
    assert report["errors"] == []
    assert code == 3
    assert "get DISCORD_TOKEN at https://discord.com" in lacking
    assert "get OPENAI_API_KEY at https://platform.openai.com" in lacking
    assert (tmp_path / "bot" / ".env.discord").stat().st_mode & 0o777 == PRIVATE


def test_plugins_lists_what_is_bundled(ran: Run) -> None:
    """With the service, its secrets, and its libraries."""
    code, out, _ = ran("plugins", "discord", "--json")
    (found,) = json.loads(out)["data"]["plugins"]

    assert code == 0
    assert found["bundled"]
    assert found["state"] in {"ready", "missing"}
    assert found["secrets"].keys() == {"DISCORD_TOKEN"}
    assert [one["extra"] for one in found["libraries"]] == ["discord"]


def test_a_plain_command_needs_no_plugin() -> None:
    """`init --with command` writes a section to fill in."""
    config = tomllib.loads(project_files("bot", [chosen("command")])["config.toml"].text)

    assert config["services"] == {"legacy": {"command": ["sleep", "infinity"]}}
    assert "command" not in config["plugins"]
