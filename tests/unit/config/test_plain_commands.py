"""Sections with a `command`: which values they have, and what they imply."""

from pathlib import Path
from typing import Any

import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.plain import USE, command_settings
from garrison.supervisor.config.spec import ServiceSpec

PROVIDES = {"command": ["command"], "chat": ["chat"]}  # plugin → its service_types


def loaded(folder: Path, text: str) -> Config:
    """Return the config of a text."""
    path = folder / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {})


def one(folder: Path, lines: str) -> ServiceSpec:
    """Return the spec of a service with these keys."""
    (spec,) = loaded(folder, f"[services.a]\n{lines}").services(PROVIDES)
    return spec


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('command = ["run", "a", "a", ""]', ("run", "a", "a", "")),
        ('command = ["sh", "-c", "x | y > $Z"]', ("sh", "-c", "x | y > $Z")),
    ],
)
def test_arguments_are_kept_as_they_are(tmp_path: Path, line: str, value: tuple[str, ...]) -> None:
    """Also equal and empty ones."""
    assert one(tmp_path, line).plain.command == value


@pytest.mark.parametrize(
    ("lines", "key", "value"),
    [
        ("", "stop_signal", "SIGTERM"),
        ('stop_signal = "INT"', "stop_signal", "SIGINT"),
        ('stop_signal = "sigquit"', "stop_signal", "SIGQUIT"),
        ('ready = "line:  listening: on "', "ready", "line: listening: on"),
        ('ready = "port:8080"', "ready", "port: 8080"),
        ('ready = "notify"', "ready", "notify"),
        ('health_command = ["true"]', "health_command", ("true",)),
    ],
)
def test_the_other_keys(tmp_path: Path, lines: str, key: str, value: object) -> None:
    """A signal may be written as supervisord does."""
    assert getattr(one(tmp_path, f'command = ["x"]\n{lines}').plain, key) == value


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('command = "node bot.js"', 'a string: write ["node", "bot.js"]'),
        ('command = "a | b"', 'write ["sh", "-c", "a | b"]'),
        ('command = "it\'s"', "write ["),
        ("command = []", "expected a program and its arguments, got none"),
        ('command = ["a", 1]', "expected a string in quotes"),
        ("command = 1", "expected a list of strings"),
        ('command = ["x"]\nready = "soon"', "got `soon`"),
        ('command = ["x"]\nready = "port: 0"', "got `port: 0`"),
        ('command = ["x"]\nready = "line:"', "got `line:`"),
        ('command = ["x"]\nstop_signal = "SIGSTOP"', "expected the name of a signal"),
        ('command = ["x"]\nstop_signal = "SIGTREM"', "did you mean `SIGTERM`?"),
        ('ready = "notify"', "it needs a `command` beside it"),
        ('command = ["x"]\nplugin = "chat"', "a `command` runs without a plugin"),
        ('command = ["x"]\n[services.a.config]\nb = 1', "has no settings of its own"),
        ('command = ["x"]\ncwd = "/tmp"', "working_directory"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, lines: str, problem: str) -> None:
    """With file, line and key; the text says what to write."""
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, f"[plugins.chat]\n[services.a]\n{lines}")
    assert problem in str(raised.value)


def test_a_command_needs_no_plugin(tmp_path: Path) -> None:
    """It brings its own, which has no service besides; others' services are as before."""
    text = '[plugins.chat]\n[services.a]\ncommand = ["x"]\n[services.chat]\n'
    config = loaded(tmp_path, text)
    assert config.plugins["command"].use == USE
    specs = {spec.name: spec for spec in config.services(PROVIDES)}
    assert {name: spec.plugin for name, spec in specs.items()} == {"chat": "chat", "a": "command"}
    assert command_settings(specs["chat"]) == {}
    assert command_settings(specs["a"])["command"] == ["x"]
    assert "command" not in loaded(tmp_path, "[plugins.chat]\n").plugins


def test_it_runs_in_the_folder_of_the_config(tmp_path: Path) -> None:
    """Unless its section or [defaults] says otherwise."""
    places = {
        "": tmp_path,
        'working_directory = "data"': tmp_path / "data",
        'working_directory = "/srv"': Path("/srv"),
    }
    for line, folder in places.items():
        assert one(tmp_path, f'command = ["x"]\n{line}').limits.working_directory == folder
    text = '[defaults]\nworking_directory = "/d"\n[services.a]\ncommand = ["x"]'
    (spec,) = loaded(tmp_path, text).services(PROVIDES)
    assert spec.limits.working_directory == Path("/d")


def test_an_agent_may_have_one_and_the_host_another(tmp_path: Path) -> None:
    """Each is where its section is, whether or not the agent names its plugins."""
    text = """
[plugins.chat]
[agents.ada]
[agents.bob]
plugins = ["chat"]
[agents.bob.services.own]
command = ["x"]
[services.shared]
command = ["y"]
"""
    specs = loaded(tmp_path, text).services(PROVIDES)
    found: dict[str, Any] = {spec.name: spec.plain.command for spec in specs}
    assert found == {"shared": ("y",), "ada.chat": (), "bob.chat": (), "bob.own": ("x",)}
