"""The agent's config: every key is in config.toml, with its default."""

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from garrison.workers.services.agent.config import Config

REFERENCE = Path(__file__).parents[3] / "config.toml"
EXAMPLES = {
    "temperature",
    "max_tokens",
    "per_person",
    "per_room",
    "budget",
}  # keys without a default


def test_the_reference_has_every_key_with_its_default() -> None:
    """The values in config.toml equal the defaults."""
    section = REFERENCE.read_text().partition("# [services.agent.config]\n")[2]
    section = section.partition("# [")[0]
    values = tomllib.loads("\n".join(re.findall(r"^# ([a-z_]+ = .*)$", section, re.MULTILINE)))

    assert set(values) == set(Config.__struct_fields__)
    defaults = {key: value for key, value in values.items() if key not in EXAMPLES}
    assert msgspec.convert(defaults, Config) == Config()
    assert msgspec.convert(values, Config)


@pytest.mark.parametrize(
    "values",
    [
        {"answer_timeout": 0},
        {"answer_timeout": float("inf")},
        {"memories_per_room": 0},
        {"conversation_length": 0},
        {"decide": "dice"},
        {"temperatur": 1},
        {"max_tokens": 0},
        {"waiting": -1},
        {"per_person": {"per_minute": 0, "burst": 1}},
        {"per_person": {"per_minute": 10}},
        {"budget": {"tokens_per_day": -1}},
        {"budget": {"at_limit": "stop"}},
        {"budget": {"degrade_at": 0}},
        {"budget": {"per_persons": {"tokens_per_day": 1}}},
        {"per_room": {"per_minute": 10, "burst": 0}},
        {"per_room": {"per_hour": 10, "burst": 1}},
        {"block": "ada"},
        {"answer_within": -1},
        {"gate_failure": "ask"},
    ],
)
def test_an_error_names_the_key(values: dict[str, object]) -> None:
    """Every value has bounds, and unknown keys are rejected."""
    with pytest.raises(msgspec.ValidationError, match=next(iter(values))):
        msgspec.convert(values, Config)
