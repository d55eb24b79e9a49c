"""A config with the accepted one behind it: what is used, what is marked, what is accepted."""

from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest

from garrison.ipc.errors import ConfigError
from garrison.supervisor.config.accepted import (
    Accepted,
    AcceptedConfig,
    accept_services,
    accept_whole,
)
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.config.spec import ServiceSpec
from garrison.supervisor.fitting import configured_services

PROVIDES = {"p": ["a", "b"], "q": ["c"], "r": ["d"]}
FORMER = """
[defaults]
grace = 7
[plugins.p]
[plugins.q]
[services.a]
watchdog = 1
[services.b]
watchdog = 2
"""


def read(folder: Path, text: str, accepted: AcceptedConfig | None = None) -> Config:
    """Return the config of a text."""
    path = folder / "config.toml"
    path.write_text(text)
    return load(path, Path("/h"), {}, None if accepted is None else Accepted.parse(accepted))


def fitted(config: Config) -> tuple[Config, dict[str, ServiceSpec]]:
    """Return what fits the plugins."""
    config, specs = configured_services(config, PROVIDES)
    return config, {spec.name: spec for spec in specs}


def accepting(folder: Path, text: str = FORMER) -> AcceptedConfig:
    """Return what a host has accepted that was started with a text."""
    config, specs = fitted(read(folder, text))
    return msgspec.json.decode(
        msgspec.json.encode(accept_whole(config.origins, specs)), type=AcceptedConfig
    )


def rejected(config: Config) -> dict[str, int | None]:
    """Return the rejected keys and their lines."""
    return {one.error.key: one.error.line for one in config.rejected}


@pytest.mark.parametrize(
    ("old", "new", "marks", "services"),
    [
        # section: another value; a wrong one; the other service is as the file has it
        ("watchdog = 1", "watchdog = 3", {}, {"a": 3, "b": 2, "c": 10}),
        ("watchdog = 1", "watchdg = 3", {"services.a.watchdg": 7}, {"a": 1, "b": 2, "c": 10}),
        ("watchdog = 2", "user = true", {"services.b.user": 9}, {"a": 1, "b": 2, "c": 10}),
        (
            "watchdog = 1",
            'watchdog = 3\ndepends_on = ["z"]',
            {"services.a.depends_on[0]": 8},
            {"a": 1, "b": 2, "c": 10},
        ),
        (
            "watchdog = 1",
            'watchdog = 3\ndepends_on = ["b"]\n[services.c]\ndepends_on = ["c"]',
            {"services.c.depends_on": 10},
            {"a": 3, "b": 2, "c": 10},
        ),
        # two at once
        (
            "watchdog = ",
            "watchdogs = ",
            {"services.a.watchdogs": 7, "services.b.watchdogs": 9},
            {"a": 1, "b": 2, "c": 10},
        ),
        # a new service: left out, and no other
        (
            "[services.a]",
            '[services.x]\nplugin = "q"\nwatch = 1\n[services.a]',
            {"services.x.watch": 8},
            {"a": 1, "b": 2, "c": 10},
        ),
        # plugins: a known one goes on as accepted, a new one is left out
        ("[plugins.q]", "[plugins.q]\nuses = 'x'", {"plugins.q.uses": 6}, {"c": 10}),
        ("[plugins.q]", "[plugins.q]\n[plugins.r]\nuse = 3", {"plugins.r.use": 7}, {"c": 10}),
        # one plugin is gone, its section is not: nothing fits but the accepted config
        ("[plugins.p]\n", "", {"services.a": 5}, {"a": 1, "b": 2, "c": 10}),
        # the file as a whole
        ("[services.a]", "[service.a]", {"service": 6}, {"a": 1, "b": 2}),
        ("[plugins.p]", "[plugins.p", {"": 4}, {"a": 1, "b": 2}),
        ("[services.a]\nwatchdog = 1\n[services.b]\n", "[agents.x]\nservices = 3\n", {}, {"a": 1}),
    ],
)
def test_what_does_not_fit_is_as_it_was_accepted(
    tmp_path: Path, old: str, new: str, marks: dict[str, int], services: dict[str, float]
) -> None:
    """And nothing else; each rejection has its line in the file."""
    accepted = accepting(tmp_path)
    text = FORMER.replace(old, new)
    config, specs = fitted(read(tmp_path, text, accepted))
    assert not marks or rejected(config) == marks
    assert all(one.error.path == str(tmp_path / "config.toml") for one in config.rejected)
    found = {name: spec.supervision.watchdog for name, spec in specs.items()}
    assert found | services == found
    assert "x" not in found
    if marks:  # without an accepted config it is an error, as ever
        with pytest.raises(ConfigError):
            fitted(read(tmp_path, text))


def test_rejected_defaults_are_the_accepted_ones_whole(tmp_path: Path) -> None:
    """For every service; a section that goes on as accepted keeps the defaults that it had."""
    accepted = accepting(tmp_path)
    text = FORMER.replace("grace = 7", "grace = 9\nwindow = 0").replace("= 1", "= 3")
    config, specs = fitted(read(tmp_path, text, accepted))
    assert rejected(config) == {"defaults.window": 4}
    assert (specs["a"].supervision.grace, specs["a"].supervision.watchdog) == (7, 3)

    text = FORMER.replace("grace = 7", "grace = 9").replace("watchdog = 1", "watch = 3")
    config, specs = fitted(read(tmp_path, text, accepted))
    graces = {name: spec.supervision.grace for name, spec in specs.items()}
    assert graces == {"a": 7, "b": 9, "c": 9}


def test_agents_are_units_too(tmp_path: Path) -> None:
    """Its services are taken from the file where its own keys are not, and the reverse."""
    former = (
        '[plugins.p]\n[plugins.q]\n[agents.ada]\nplugins = ["p"]\n'
        "[agents.ada.services.a]\nwatchdog = 1\n"
    )
    accepted = accepting(tmp_path, former)
    text = former.replace('["p"]', '["p", "z"]').replace("= 1", "= 3")
    config, specs = fitted(read(tmp_path, text, accepted))
    assert rejected(config) == {"agents.ada.plugins[1]": 4}
    assert (set(specs), specs["ada.a"].supervision.watchdog) == ({"c", "ada.a", "ada.b"}, 3)
    config, specs = fitted(read(tmp_path, former.replace("= 1", "= true"), accepted))
    assert rejected(config) == {"agents.ada.services.a.watchdog": 6}
    assert specs["ada.a"].supervision.watchdog == 1
    text = f'{former}[agents.eve]\nplugin = ["q"]\n[agents.eve.services.c]\n'
    config, specs = fitted(read(tmp_path, text, accepted))
    assert (set(config.agents), set(specs)) == ({"", "ada"}, {"c", "ada.a", "ada.b"})


def texts(accepted: AcceptedConfig, names: Iterable[str]) -> list[bool]:
    """Return for each service whether its section is from the text with "new" in it."""
    return ["new" in accepted.documents[accepted.services[name].section].text for name in names]


def test_a_restart_accepts_the_sections_of_its_services_alone(tmp_path: Path) -> None:
    """With their defaults and their plugin; a text that nothing refers to is not kept."""
    accepted = accepting(tmp_path)
    text = "# new\n" + FORMER.replace("= 7", "= 8").replace("= 1", "= 3").replace("= 2", "= 4")
    config, specs = fitted(read(tmp_path, text, accepted))
    one = accept_services(config.origins, {"a": ("p", "")}, accepted)
    assert texts(one, "abc") == [True, False, False]
    broken, specs = fitted(read(tmp_path, "broken", one))
    found = {n: (s.supervision.watchdog, s.supervision.grace) for n, s in specs.items()}
    assert found == {"a": (3, 8), "b": (2, 7), "c": (10, 7)}
    assert broken.default_spec.supervision.grace == 7

    both = accept_services(config.origins, {"b": ("p", ""), "c": ("q", "")}, one)
    assert texts(both, "abc") == [True, True, True]
    assert len(both.documents) == 2  # the former text has [defaults] and [host]
    whole = accept_whole(config.origins, specs)
    assert len(whole.documents) == 1
    assert accept_whole(broken.origins, specs, one) == one


@pytest.mark.parametrize("text", ["", FORMER], ids=["nothing configured", "no service known"])
def test_a_config_without_services_is_accepted(tmp_path: Path, text: str) -> None:
    """What it replaces is gone; plugins that could not be read have no services yet."""
    config = read(tmp_path, text)
    accepted = accept_whole(config.origins, [], None)
    assert Accepted.parse(accepted).document(("host",)).text == text
    newer = accept_whole(config.origins, [], accepting(tmp_path, "# other\n" + FORMER))
    assert Accepted.parse(newer).document(("defaults",)).text == text


def test_relative_paths_begin_at_the_folder_of_the_text(tmp_path: Path) -> None:
    """Also if the file is elsewhere now."""
    former, now = tmp_path / "former", tmp_path / "now"
    former.mkdir()
    now.mkdir()
    text = FORMER.replace("watchdog = 1", 'env_file = "a.env"\nworking_directory = "data"')
    accepted = accepting(former, text)
    _, specs = fitted(read(now, "broken", accepted))
    assert specs["a"].environment.env_file == former / "a.env"
    assert specs["a"].limits.working_directory == former / "data"
