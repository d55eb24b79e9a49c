"""A reload: what follows for the second incarnation, and which services have none."""

import pytest

from garrison.ipc.messages import Manifest, State
from garrison.supervisor.config.spec import PluginSpec, ServiceSpec, service_spec
from garrison.supervisor.lifecycle.policy import Child
from garrison.supervisor.lifecycle.reloading import ReloadStep, next_step, why_not
from garrison.supervisor.lifecycle.services import Service

PLUGIN = PluginSpec(name="p", use="p")


def spec(exclusive: bool = False) -> ServiceSpec:
    """Return a spec."""
    return service_spec(name="a", plugin="p", service_type="a", exclusive=exclusive)


@pytest.mark.parametrize(
    ("state", "wanted", "step"),
    [
        (State.INITIALIZING, True, ReloadStep.WAIT),
        (State.STARTING, True, ReloadStep.WAIT),
        (State.STOPPING, True, ReloadStep.WAIT),  # its start took too long
        (State.RUNNING, True, ReloadStep.TAKE_OVER),
        (State.RUNNING, False, ReloadStep.WAIT),  # ordered to stop as it became ready
        (State.STOPPING, False, ReloadStep.WAIT),  # the former one drains
        (State.STOPPED, False, ReloadStep.DROP),
        (State.BACKOFF, True, ReloadStep.DROP),  # it is not tried again
        (State.FAILED, True, ReloadStep.DROP),
        (State.QUEUED, True, ReloadStep.DROP),
    ],
)
def test_what_follows_for_a_second_incarnation(
    state: State, wanted: bool, step: ReloadStep
) -> None:
    """It takes over once it runs; without a process it is nothing."""
    assert next_step(Child(spec(), state, wanted)) is step


@pytest.mark.parametrize(
    ("runs", "on_disk", "platform", "state", "starts", "words"),
    [
        (False, False, False, State.RUNNING, False, ""),
        (True, False, False, State.RUNNING, False, "it runs with exclusive = true"),
        (False, True, False, State.RUNNING, False, "the config has it with exclusive = true"),
        (False, False, True, State.RUNNING, False, "chat platform"),
        (False, False, False, State.STOPPED, False, "it is stopped; garrison start a"),
        (False, False, False, State.RUNNING, True, "is being reloaded already"),
    ],
)
def test_what_cannot_be_reloaded(
    runs: bool, on_disk: bool, platform: bool, state: State, starts: bool, words: str
) -> None:
    """The reason is named, and what to do."""
    manifest = Manifest("a", platform=platform)
    service = Service(Child(spec(runs), state), PLUGIN, manifest, 0)
    problem = why_not(service, spec(on_disk), starts)
    assert words in problem
    assert bool(problem) is bool(words)
