"""A trial: when a service that is tried runs, and why it has failed."""

import pytest
from msgspec.structs import replace

from garrison.ipc.messages import Health, Manifest, State
from garrison.supervisor.config.spec import PluginSpec, service_spec
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.services import Service
from garrison.supervisor.lifecycle.trials import Tried

SPEC = service_spec(name="a", plugin="p", service_type="a")
RUNNING = Child(SPEC, State.RUNNING, wanted=True, generation=3, restarted=5)


@pytest.mark.parametrize(
    ("child", "health", "runs", "problem"),
    [
        (RUNNING, "", True, ""),
        (RUNNING, "no connection", True, "its health is not good (no connection)"),
        (replace(RUNNING, generation=2), "bad before", False, ""),  # the process before the trial
        (replace(RUNNING, state=State.STOPPING, generation=2), "", False, ""),
        (replace(RUNNING, state=State.STARTING), "", False, ""),
        (replace(RUNNING, state=State.QUEUED), "", False, "it waits for db"),
        (replace(RUNNING, state=State.BACKOFF), "", False, "it crashed"),
        (replace(RUNNING, state=State.FAILED), "", False, "it crashed"),
        (replace(RUNNING, restarted=6), "", True, "it crashed"),  # and was restarted at once
        (replace(RUNNING, state=State.STOPPED, wanted=False), "", False, "it crashed"),
    ],
)
def test_why_a_trial_has_failed(child: Child, health: str, runs: bool, problem: str) -> None:
    """A crash, an end, bad health of the next process, or a dependency that does not start."""
    service = Service(child, PluginSpec(name="p", use="p"), Manifest("a"), 0, reason="it crashed")
    service.current.health = Health(health)
    tried = Tried(service, before=2, restarted=5)
    assert tried.runs is runs
    assert tried.problem("waits for db") == problem
