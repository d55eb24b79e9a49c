"""Where a setting is looked for: the character's, then the service's own."""

import logging
from typing import Any

import pytest

from garrison.workers import Character, Service
from garrison.workers.agents.settings import Settings
from garrison.workers.testing import run

ADA = {
    "name": "Ada",
    "secrets": {"A": "secret", "N": None},
    "settings": {"A": "setting", "B": "setting", "OFF": False, "secrets": {"B": "n", "C": "n"}},
}


class Plain(Service):
    """Has settings."""

    service_type = "plain"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("A", "secret"),
        ("B", "setting"),
        ("C", "n"),
        ("D", "own"),
        ("E", "environment"),
        ("N", "own"),
        ("OFF", False),
        ("NONE", "default"),
    ],
)
async def test_the_character_comes_first(
    monkeypatch: pytest.MonkeyPatch, key: str, expected: object
) -> None:
    """Then the service's secrets, then its environment, then the default."""
    for name in "ABCDEN":
        monkeypatch.setenv(name, "environment")
    monkeypatch.setenv("OFF", "on")
    own = dict.fromkeys("ABCDN", "own")

    async with run(Plain, character=ADA, settings=own) as service:
        assert service.runtime.get_setting(key, "default") == expected
        assert service.runtime.character.settings["OFF"] is False
        assert service.runtime.agent == ""


async def test_without_a_character_it_is_eliza() -> None:
    """The default character is Eliza; a `Character` object is used as it is."""
    async with run(Plain) as service:
        assert service.runtime.character.name == "Eliza"
        unknown: Any = service.runtime.get_setting("NOT_SET_ANYWHERE")
        assert unknown is None
    async with run(Plain, character=Character(name="Max", id="m")) as service:
        assert (service.runtime.agent_id, service.runtime.character.name) == ("m", "Max")


def test_a_withheld_secret_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The warning has the line to add, and the service's section within its agent."""
    ada = Character(name="Ada")
    settings = Settings("ada.bot", agent="ada", character=ada, withheld=["KEY"])
    with caplog.at_level(logging.WARNING):
        assert [settings.get("KEY", 1) for _ in range(3)] == [1, 1, 1]
        assert settings.get("OTHER") is None
    (line,) = caplog.messages
    assert line == (
        "setting.withheld KEY is a secret of Ada's character that this service is not granted; "
        'add secrets = ["KEY"] to [agents.ada.services.bot] in the config'
    )


def test_a_key_that_is_elsewhere_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log and in `status`, with what to do. What the service has needs no hint."""
    monkeypatch.setenv("GIVEN", "g")
    shown = dict[str, str | None]()
    settings = Settings(
        "bot",
        {"OWN": "o"},
        not_granted=["KEY", "GIVEN", "OWN"],
        config_keys=["depth"],
        warn=shown.__setitem__,
    )
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert settings.get("KEY") is None
            assert settings.get("depth", 3) == 3
            assert (settings.get("GIVEN"), settings.get("OWN")) == ("g", "o")
            assert settings.get("NOWHERE") is None
    texts = [
        "KEY is set for the supervisor, but this service is not granted it; "
        'add secrets = ["KEY"] to [services.bot] in the config',
        "depth is a key of [services.bot.config]: read self.config, not get_setting",
    ]
    assert caplog.messages == [f"setting.withheld {texts[0]}", f"setting.in_config {texts[1]}"]
    assert list(shown.values()) == texts
