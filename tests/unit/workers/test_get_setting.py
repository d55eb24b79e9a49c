"""Where a setting is looked for: the character's, then the service's own."""

import logging
from typing import Any

import pytest

from garrison.workers import Character, Service
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
async def test_the_character_is_asked_first(
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
    """Who is there in a host without one, too; a Character is taken as it is."""
    async with run(Plain) as service:
        assert service.runtime.character.name == "Eliza"
        unknown: Any = service.runtime.get_setting("NOT_SET_ANYWHERE")
        assert unknown is None
    async with run(Plain, character=Character(name="Max", id="m")) as service:
        assert (service.runtime.agent_id, service.runtime.character.name) == ("m", "Max")


async def test_a_secret_that_is_withheld_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """With what to write, and the service's section as its agent has it."""
    async with run(Plain) as service:
        service.runtime.name = "ada.bot"
        service.runtime.speak_for("ada", Character(name="Ada"), ["KEY"])
        with caplog.at_level(logging.WARNING):
            assert [service.runtime.get_setting("KEY", 1) for _ in range(3)] == [1, 1, 1]
            assert service.runtime.get_setting("OTHER") is None
    (line,) = caplog.messages
    assert line == (
        "setting.withheld KEY is a secret of Ada's character that this service is not given; "
        '[agents.ada.services.bot] secrets = ["KEY"] in the config hands it over'
    )
