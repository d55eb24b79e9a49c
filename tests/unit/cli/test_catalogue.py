"""What `garrison plugins` reads of packages: requirements, extras, licences."""

from importlib import metadata

import pytest

from garrison.supervisor.cli.catalogue import (
    LICENCES,
    InstalledPlugin,
    Library,
    _libraries,
    _requirements,
    _Stated,
)
from garrison.supervisor.placing.packages import canonical
from garrison.workers import Platform

LINES = [
    "click>=8.2",
    "discord-py>=2.7; extra == 'discord'",
    'sqlalchemy[asyncio]>=2.0.45 ; extra == "database"',
    "piper-tts>=1.8; python_version < '4' and extra == 'tts_piper'",
]


def test_requirements_of_extras_are_read() -> None:
    """A requirement of the package itself belongs to no extra."""
    assert _requirements(LINES) == [
        _Stated("discord-py>=2.7", "discord-py", "discord"),
        _Stated("sqlalchemy[asyncio]>=2.0.45", "sqlalchemy", "database"),
        _Stated("piper-tts>=1.8", "piper-tts", "tts-piper"),
    ]


@pytest.mark.parametrize(
    ("plugin", "found"),
    [("discord", ["discord-py>=2.7"]), ("tts", ["piper-tts>=1.8"]), ("disco", []), ("agent", [])],
)
def test_a_plugin_has_the_extras_of_its_name(plugin: str, found: list[str]) -> None:
    """`tts` has `tts` and `tts-piper`; a name that merely begins alike is another plugin."""
    libraries = _libraries(plugin, _requirements(LINES))

    assert [one.requirement for one in libraries] == found


def test_what_is_not_installed_is_missing() -> None:
    """One library that is not there is enough."""
    here = Library("a>=1", "x", "MIT", "1.0")
    plugin = InstalledPlugin(
        name="x",
        package="garrison",
        version="1",
        bundled=True,
        libraries=(here, Library("b>=2", "x", "", "")),
    )

    assert plugin.missing == ["b>=2"]


def test_every_library_of_an_extra_has_a_licence() -> None:
    """A user reads a library's licence before it is installed."""
    stated = _requirements(metadata.requires("garrison") or ())
    own = {canonical(one.package) for one in stated if one.extra not in {"test", "external", "all"}}

    assert own <= LICENCES.keys()


def test_every_bundled_platform_states_where_its_credential_is_to_be_had() -> None:
    """`init --with` writes a file of secrets for it, and `check` says where to get one."""
    plugins = [point.load() for point in metadata.entry_points(group="garrison.plugins")]
    classes = [cls for plugin in plugins for cls in plugin.services if issubclass(cls, Platform)]
    with_one = [cls for cls in classes if cls.credential]

    assert {"discord", "telegram", "twitter"} <= {cls.service_type for cls in with_one}
    assert [cls for cls in with_one if cls.credential not in cls.secrets] == []


def test_the_extra_all_brings_no_gpl() -> None:
    """GPL libraries are chosen one by one."""
    stated = _requirements(metadata.requires("garrison") or ())
    everything = {canonical(one.package) for one in stated if one.extra == "all"}

    assert everything
    assert not [one for one in everything if LICENCES[one].startswith("GPL")]
