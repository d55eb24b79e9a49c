"""An upgrade waits for the calls in flight, also where services never fall silent on their own."""

import time
from typing import cast

import pytest

from garrison.supervisor.bus.router import BusRouter
from garrison.supervisor.helpers import HelperProcesses
from garrison.supervisor.state import handover
from garrison.supervisor.state.handover import Upgrade


class Bus:
    """A bus on which services call each other until they are suspended, and then answer once."""

    def __init__(self) -> None:
        self.suspended_at = 0.0
        self._carried = 0

    @property
    def carried(self) -> int:
        """Return how many messages were forwarded."""
        if not self.suspended_at or time.monotonic() < self.suspended_at + 0.03:
            self._carried += 1
        return self._carried


def test_what_services_call_each_other_is_answered_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their calls keep the bus busy until they are suspended; from then on they have time."""
    monkeypatch.setattr(handover, "QUIET_S", 0.01)
    monkeypatch.setattr(handover, "PROGRAMS_MOST_S", 0.05)
    bus, ended = Bus(), list[float]()

    def suspend_calls() -> None:
        bus.suspended_at = time.monotonic()

    def stop_loop() -> bool:
        ended.append(time.monotonic())
        return True

    upgrade = Upgrade({}, set(), HelperProcesses({}, set()), cast("BusRouter", bus))
    for _ in upgrade.exec_successor("python", lambda: None, suspend_calls, stop_loop):
        pass
    assert upgrade.successor == "python"
    assert ended[0] >= bus.suspended_at + 0.03
