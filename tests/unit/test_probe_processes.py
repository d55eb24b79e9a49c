"""Which plugins are read together, and what follows where one cannot be read in company."""

import time
from pathlib import Path
from typing import Any

import pytest

from garrison.ipc import messages
from garrison.ipc.messages import Failing, Manifest, PluginRead, PluginsRead, Reading, ReadResult
from garrison.supervisor.config.load import Config, load
from garrison.supervisor.probe_processes import ProbeProcesses, is_bundled
from garrison.supervisor.probes import PluginProbe
from garrison.supervisor.processes import engine

CONFIG = """
[plugins.chat]
[plugins.eliza]
[plugins.mine]
[plugins.mailbox]
use = "garrison.workers.services.mailbox"
"""


class Forks:
    """An engine that notes what it is to fork, and how plugins are read."""

    def __init__(self) -> None:
        self.readings: list[Reading] = []
        self.brief: list[bool] = []
        self.killed: list[bytes] = []

    def fork(self, token: bytes, name: str, assignment: bytes, **options: Any) -> None:
        """Note it."""
        reading = messages.decode_assignment(assignment)
        assert isinstance(reading, Reading)
        assert reading.token == token
        self.readings.append(reading)
        self.brief.append(options["brief"])

    def signal(self, token: bytes, number: int) -> None:
        """Note it."""
        self.killed.append(token)

    @property
    def read(self) -> list[list[str]]:
        """Return which plugins each process reads."""
        return [[one.source.name for one in reading.plugins] for reading in self.readings]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Return a config with two bundled plugins, and two that may be any code."""
    (tmp_path / "config.toml").write_text(CONFIG)
    return load(tmp_path / "config.toml", tmp_path / "home")


def begun(config: Config) -> tuple[Forks, ProbeProcesses, list[PluginProbe], list[bytes]]:
    """Return an engine, the processes, the probes of all plugins, and what is acknowledged."""
    forks: Any = Forks()
    acknowledged: list[bytes] = []
    processes = ProbeProcesses({}, forks, acknowledged.append, lambda: None)
    return forks, processes, processes.begin_all(config, config.plugins), acknowledged


def found(service_type: str) -> PluginRead:
    """Return what is read of a plugin with one service."""
    return PluginRead((Manifest(service_type),))


def test_bundled_plugins_are_read_in_one_process(config: Config) -> None:
    """Any other one alone: it may hang, or end its process."""
    forks, *_ = begun(config)
    assert forks.read == [["chat", "eliza"], ["mine"], ["mailbox"]]
    assert all(forks.brief)


def test_a_file_beside_the_config_is_not_bundled(config: Config, tmp_path: Path) -> None:
    """It may be meant, so its code may run; the reader says what is ambiguous."""
    assert is_bundled(config.plugins["chat"], tmp_path)
    (tmp_path / "chat.py").write_text("")
    assert not is_bundled(config.plugins["chat"], tmp_path)


def test_one_message_has_what_was_read_together(config: Config) -> None:
    """Each probe has its own result, and the process is acknowledged once."""
    forks, processes, probes, acknowledged = begun(config)
    token = forks.readings[0].token
    results = ReadResult.of(found("chat")), ReadResult.of(found("eliza"))

    assert processes.on_message(token, PluginsRead(results))
    assert acknowledged == [token]
    assert [probe.found for probe in probes[:2]] == [found("chat"), found("eliza")]
    assert [probe.done for probe in probes] == [True, True, False, False]


def test_what_failed_in_company_is_read_alone(config: Config) -> None:
    """It may be that another one is to blame."""
    forks, processes, probes, _ = begun(config)
    steps = processes.until_all_read(config, probes, time.monotonic() + 60.0)
    results = ReadResult.of(found("chat")), ReadResult.of(Failing("read", "no memory"))
    assert next(steps) is False
    processes.on_message(forks.readings[0].token, PluginsRead(results))
    for reading in forks.readings[1:]:
        processes.on_message(reading.token, Failing("read", "no such module"))
    assert next(steps) is False

    assert forks.read[3:] == [["eliza"]]
    processes.on_message(forks.readings[3].token, found("eliza"))
    assert next(steps, None) is None
    assert [probe.found is not None for probe in probes] == [True, True, False, False]


@pytest.mark.parametrize("reported", [True, False])
def test_an_end_in_company_has_all_read_alone(config: Config, reported: bool) -> None:
    """Also of a launcher that reads one plugin, as those of the release before do."""
    forks, processes, probes, _ = begun(config)
    steps = processes.until_all_read(config, probes, time.monotonic() + 60.0)
    next(steps)
    first = forks.readings[0].token
    if reported:
        processes.on_message(first, found("chat"))
    processes.on_engine_event(engine.Ended(first, 9))
    processes.on_engine_event(engine.Gone(first, ()))
    for reading in forks.readings[1:3]:
        processes.on_engine_event(engine.NotForked(reading.token, "no memory"))
    next(steps)

    assert forks.read[3:] == ([["eliza"]] if reported else [["chat"], ["eliza"]])
    assert not processes.has(first)


def test_a_process_that_takes_too_long_is_killed(config: Config) -> None:
    """All that it reads is late."""
    forks, processes, probes, _ = begun(config)
    for probe in probes[:2]:
        probe.until = 0.0
    next(processes.until_done(*probes[:2]))
    assert set(forks.killed) == {forks.readings[0].token}
    assert "took longer" in probes[1].problem.reason
