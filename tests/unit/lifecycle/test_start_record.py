"""What a service was started with, and what the next start would change."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.start_record import StartRecord, differences, start_record

BASE: dict[str, Any] = {
    "grace": 5.0,
    "config": {"word": "one", "inner": {"a": 1}},
    "env": {"LEVEL": "debug"},
    "working_directory": Path("/data"),
}


def record(
    environment: tuple[str, ...] = ("LEVEL",),
    secrets: dict[str, str] | None = None,
    plugin: dict[str, Any] | None = None,
    files: dict[str, tuple[int, int, int]] | None = None,
    **keys: Any,
) -> StartRecord:
    """Return the record of a service, as it comes back from the snapshot."""
    spec = service_spec(name="bot", plugin="p", service_type="bot", **{**BASE, **keys})
    found = start_record(
        spec,
        PluginSpec(name="p", use="p", config=plugin or {}),
        environment,
        {"TOKEN": "env_file a.env"} if secrets is None else secrets,
        secret_files={"a.env": (1, 2, 3)} if files is None else files,
    )
    return msgspec.json.decode(msgspec.json.encode(found), type=StartRecord)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"grace": 0.5}, ["grace 5 → 0.5"]),
        ({"watchdog": 0.0}, ["watchdog 10 → 0"]),
        ({"nice": 3}, ["nice none → 3"]),
        ({"user": "bot"}, ["user none → bot"]),
        ({"working_directory": None}, ["working_directory /data → none"]),
        ({"config": {"word": "two", "inner": {"a": 1}}}, ["config.word"]),
        ({"config": {"inner": {"a": 2}}}, ["config.word", "config.inner"]),
        ({"plugin": {"key": 1}}, ["plugins.p.config.key"]),
        ({"env": {"LEVEL": "info"}}, ["env"]),
        ({"environment": ("MORE",)}, ["without LEVEL", "with MORE"]),
        ({"secrets": {}}, ["without secret TOKEN"]),
        ({"secrets": {"TOKEN": "file t"}}, ["secret TOKEN from file t"]),
        ({"files": {"a.env": (1, 2, 4)}}, ["secrets in a.env"]),
        ({"files": {"b.env": (1, 2, 3)}}, []),  # the secrets have another place: that is shown
        # They hold for all services at once, or for none that runs
        ({"depends_on": ("x",), "bind_to": ("x",), "autostart": False}, []),
    ],
)
def test_what_a_restart_would_change(changed: dict[str, Any], expected: list[str]) -> None:
    """Each setting by its key, and no value of the config, the environment or a secret."""
    assert differences(record(), record(**changed)) == expected
