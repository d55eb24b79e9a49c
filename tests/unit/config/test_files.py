"""A config of several files: what is included, what overrides what, and what one bad file does."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.accepted import Accepted, AcceptedConfig, accept_whole
from garrison.supervisor.config.files import FILES_MOST
from garrison.supervisor.config.homes import find_home
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.fitting import configured_services

PROVIDES = {"p": ["a", "b"], "q": ["c"]}
MAIN = '[host]\ninclude = ["conf.d/*.toml"]\n[plugins.p]\n[services.a]\nwatchdog = 1\n'
PART = "[plugins.q]\n[services.c]\nwatchdog = 3\nenv_file = 'c.env'\n"
OVER = "[services.a]\ngrace = 4\n[services.c]\nwatchdog = 5\n"
STAGING = ("main.toml", "staging.toml")


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Write files; those that are not named stay."""
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def read(
    folder: Path, names: Sequence[str] = ("main.toml",), accepted: AcceptedConfig | None = None
) -> tuple[Config, dict[str, ServiceSpec]]:
    """Return the config of files, and its services."""
    parsed = None if accepted is None else Accepted.parse(accepted)
    config = load([folder / name for name in names], Path("/h"), {}, parsed)
    config, specs = configured_services(config, PROVIDES)
    return config, {spec.name: spec for spec in specs}


def accepting(folder: Path, names: Sequence[str] = ("main.toml",)) -> AcceptedConfig:
    """Return what a host has accepted that was started with the files, as it comes from disk."""
    config, specs = read(folder, names)
    stored = accept_whole(config.origins, specs)
    return msgspec.json.decode(msgspec.json.encode(stored), type=AcceptedConfig)


def watchdogs(specs: Mapping[str, ServiceSpec]) -> dict[str, float]:
    """Return the watchdog of each service."""
    return {name: spec.supervision.watchdog for name, spec in specs.items()}


def test_files_are_read_as_one(tmp_path: Path) -> None:
    """Paths in all of them begin at the first one's folder; a service says where a key is."""
    write(tmp_path, {"main.toml": MAIN, "conf.d/q.toml": PART, "conf.d/not.txt": "["})
    write(tmp_path, {"staging.toml": OVER, "conf.d/.hidden.toml": "["})
    config, specs = read(tmp_path, STAGING)
    assert watchdogs(specs) == {"a": 1, "b": 10, "c": 5}
    assert specs["a"].supervision.grace == 4
    assert specs["c"].environment.env_file == tmp_path / "c.env"
    names = ["main.toml", "conf.d/q.toml", "staging.toml"]
    assert config.files == tuple(tmp_path / name for name in names)
    assert config.paths == (tmp_path / "main.toml", tmp_path / "staging.toml")
    assert config.place_of(("services", "c", "watchdog")) == "staging.toml:4"
    assert config.place_of(("services", "c", "env_file")) == "conf.d/q.toml:4"
    assert config.place_of(("services", "c", "grace")) == ""
    assert config.overridden() == ["services.c.watchdog is that of staging.toml:4, not of q.toml:3"]
    (tmp_path / "main.toml").write_text(MAIN.replace("include", "#"))
    assert read(tmp_path)[0].place_of(("services", "a", "watchdog")) == ""


@pytest.mark.parametrize(
    ("part", "line", "problem"),
    [
        ("[plugins.q", 1, "not TOML"),
        ("\n[host]\n", 2, "an included file has only"),
        ("[defaults]\n", 1, "an included file has only"),
        ("service = 1\n", 1, "an included file has only"),
        ("services = 1\n", 1, "expected a table"),
        ("[agents.x]\nservices = 1\n", 2, "expected a table"),
        ("#" * (1 << 20) + "\n", None, "at most 1,048,576 bytes"),
        (None, None, "no such file"),
    ],
)
def test_a_bad_file_holds_back_its_own_services_alone(
    tmp_path: Path, part: str | None, line: int | None, problem: str
) -> None:
    """They go on as accepted, the others as on disk; with nothing accepted it is an error."""
    write(tmp_path, {"main.toml": MAIN, "conf.d/q.toml": PART})
    accepted = accepting(tmp_path)
    (tmp_path / "main.toml").write_text(MAIN.replace("= 1", "= 2"))
    path = tmp_path / "conf.d" / "q.toml"
    if part is None:
        path.unlink()
        path.symlink_to("nowhere")
    else:
        path.write_text(part)
    config, specs = read(tmp_path, accepted=accepted)
    assert watchdogs(specs) == {"a": 2, "b": 10, "c": 3}
    (rejection,) = config.rejected
    assert (rejection.error.path, rejection.error.line) == (str(path), line)
    assert problem in str(rejection.error)
    assert [name for name, spec in specs.items() if rejection.concerns(spec)] == ["c"]
    with pytest.raises(ConfigError, match=problem):
        read(tmp_path)


def test_a_wrong_key_holds_back_its_own_section_alone(tmp_path: Path) -> None:
    """Its error names the included file; a file that is gone takes its services along."""
    write(tmp_path, {"main.toml": MAIN, "conf.d/q.toml": PART})
    accepted = accepting(tmp_path)
    write(tmp_path, {"conf.d/q.toml": PART.replace("= 3", "= 'x'")})
    config, specs = read(tmp_path, accepted=accepted)
    assert watchdogs(specs)["c"] == 3
    assert "conf.d/q.toml:3: services.c.watchdog: " in str(config.rejected[0].error)
    (tmp_path / "conf.d" / "q.toml").unlink()
    assert watchdogs(read(tmp_path, accepted=accepted)[1]) == {"a": 1, "b": 10}


def test_what_two_files_have_is_refused(tmp_path: Path) -> None:
    """The error names both places, and the section goes on as accepted."""
    write(tmp_path, {"main.toml": MAIN, "conf.d/q.toml": PART})
    accepted = accepting(tmp_path)
    write(tmp_path, {"conf.d/z.toml": "[plugins.z]\n\n[services.c]\nwatchdog = 9\n"})
    with pytest.raises(ConfigError) as caught:
        read(tmp_path)
    first, second = tmp_path / "conf.d" / "q.toml", tmp_path / "conf.d" / "z.toml"
    assert str(caught.value).startswith(f"{second}:3: services.c: it is in {first}:2 too")
    config, specs = read(tmp_path, accepted=accepted)
    assert watchdogs(specs) == {"a": 1, "b": 10, "c": 3}
    assert [one.unit for one in config.rejected] == [("services", "c")]
    assert "z" in config.plugins


def test_files_are_bounded(tmp_path: Path) -> None:
    """In number; one that is named must be there, and a pattern is of one folder."""
    write(tmp_path, {"main.toml": MAIN.replace("conf.d/*.toml", "q.toml")})
    with pytest.raises(ConfigError, match=r"main.toml:2: host.include\[0\]: there is no file"):
        read(tmp_path)
    write(tmp_path, {"main.toml": MAIN.replace("*.toml", "**/*.toml")})
    with pytest.raises(ConfigError, match=r"main.toml:2: host.include\[0\]: expected a pattern"):
        read(tmp_path)
    write(tmp_path, {"main.toml": MAIN})
    write(tmp_path, {f"conf.d/{n}.toml": "" for n in range(FILES_MOST + 1)})
    with pytest.raises(ConfigError, match="more than 256 files"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("over", "error"),
    [
        ('remove = ["services.x"]\n', "staging.toml:1: remove[0]: no file before this one has"),
        ('remove = ["services.a",\n"a b"]\n', "staging.toml:2: remove[1]: expected a key"),
        ("remove = 3\n", "staging.toml:1: remove: expected a list of keys"),
        (
            "[services.a]\nwatchdog = 'x'\n",
            "staging.toml:2: services.a.watchdog: expected a number",
        ),
        (
            "[services.a.config]\n[services.a]\nplugin = 'z'\n",
            "staging.toml:3: services.a.plugin: ",
        ),
        ("\n[services\n", "staging.toml:2: not TOML"),
    ],
)
def test_an_error_names_the_file_that_sets_the_key(tmp_path: Path, over: str, error: str) -> None:
    """Also where an earlier file has the same key."""
    write(tmp_path, {"main.toml": MAIN, "staging.toml": over})
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, STAGING)
    assert str(caught.value).startswith(f"{tmp_path}/{error}")


def test_an_overlay_takes_keys_away(tmp_path: Path) -> None:
    """A key, a section, a plugin; what was accepted of such a service is the same without it."""
    write(tmp_path, {"main.toml": MAIN, "conf.d/q.toml": PART})
    write(tmp_path, {"staging.toml": 'remove = ["services.c.watchdog", "services.a"]\n'})
    accepted = accepting(tmp_path, STAGING)
    assert watchdogs(read(tmp_path, STAGING)[1]) == {"a": 10, "b": 10, "c": 10}
    write(tmp_path, {"main.toml": "["})
    _, specs = read(tmp_path, STAGING, accepted)
    assert watchdogs(specs) == {"a": 10, "b": 10, "c": 10}
    assert specs["c"].environment.env_file == tmp_path / "c.env"


def test_each_environment_has_its_own_home(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the last overlay's name, or as it says; one that all would share is refused."""
    monkeypatch.chdir(short_path)
    write(short_path, {"main.toml": MAIN, "staging.toml": "", "eu.toml": ""})
    paths = [short_path / name for name in (*STAGING, "eu.toml")]
    assert find_home(None, paths[0], {}) == short_path / ".garrison"
    assert find_home(None, paths[:2], {}) == short_path / ".garrison-staging"
    assert find_home(None, paths, {}) == short_path / ".garrison-eu"
    assert load(paths[:2], None, {}).host.run == short_path / ".garrison-staging" / "run"
    write(short_path, {"staging.toml": "[host]\nhome = 'there'\n"})
    assert load(paths[:2], None, {}).host.home == short_path / "there"
    for key in ("home", "run", "state", "logs"):
        write(
            short_path, {"main.toml": f"[host]\n{key} = 'all'\n[plugins.p]\n", "staging.toml": ""}
        )
        with pytest.raises(ConfigError, match=f"main.toml:2: host.{key}: with overlays each"):
            load(paths[:2], None, {})
        assert load(paths[0], None, {}).host
