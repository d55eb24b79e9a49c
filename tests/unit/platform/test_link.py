"""What is known of a platform's connection, and its probes."""

import asyncio

import pytest
from tests.support.waiting import until_true

from garrison.ipc.messages import Link
from garrison.workers.platform import probing
from garrison.workers.platform.link import LinkState
from garrison.workers.platform.probing import Probing


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the time of the test."""
    return Clock()


def test_a_new_link_knows_nothing(clock: Clock) -> None:
    """What did not happen since the start has no age."""
    link = LinkState(clock)

    assert link.report() == Link()
    assert link.quiet_s == float("inf")


def test_each_kind_of_traffic_has_its_age(clock: Clock) -> None:
    """A message in shows that the receiving side is alive; one out does not."""
    link = LinkState(clock)
    link.note_in()
    clock.now += 5
    link.note_out()
    clock.now += 2

    assert link.report() == Link(in_s=7.0, out_s=2.0, alive_s=7.0)
    assert link.quiet_s == 7.0


def test_a_quiet_channel_is_no_dead_one(clock: Clock) -> None:
    """Any sign of life ends what a probe found."""
    link = LinkState(clock)
    link.note_probe("it does not\nanswer")
    clock.now += 1

    assert (link.problem, link.quiet_s) == ("it does not answer", 1.0)
    assert link.report() == Link(probe_s=1.0, probe_problem="it does not answer")
    link.note_alive()
    assert link.report() == Link(alive_s=0.0, probe_s=1.0)


def test_a_disconnect_for_good_lasts_until_there_is_a_connection(clock: Clock) -> None:
    """Traffic does not end it: a message may have been under way."""
    link = LinkState(clock)
    link.disconnected("the session is over")
    link.note_in()

    assert link.report().problem == "the session is over"
    link.connected()
    assert link.report().problem == ""
    link.disconnected(" ")
    assert link.report().problem == "the connection has ended"


class Receiver:
    """A receiving side that the test makes deaf."""

    def __init__(self) -> None:
        self.probes = 0
        self.problem = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def probe(self) -> None:
        """Fail while it is deaf."""
        self.probes += 1
        await self.gate.wait()
        if self.problem:
            raise ConnectionError(self.problem)


async def test_a_probe_that_fails_is_deaf() -> None:
    """The text is what the author raised."""
    receiver, link = Receiver(), LinkState()
    probes = Probing(link, receiver.probe, 300.0)
    receiver.problem = "no answer"

    assert (await probes.check()).probe_problem == "no answer"
    receiver.problem = ""
    found = await probes.check()
    assert (found.probe_problem, found.problem) == ("", "")
    assert found.alive_s is not None


async def test_a_probe_that_hangs_is_deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a deadline."""
    monkeypatch.setattr(probing, "PROBE_S", 0.01)
    receiver, link = Receiver(), LinkState()
    receiver.gate.clear()

    assert "within 0.01 s" in (await Probing(link, receiver.probe, 0.0).check()).probe_problem


async def test_probes_at_the_same_time_are_one() -> None:
    """`garrison probe` joins the one that is under way."""
    receiver, link = Receiver(), LinkState()
    probes = Probing(link, receiver.probe, 0.0)
    receiver.gate.clear()
    both = [asyncio.create_task(probes.check()) for _ in range(2)]
    await until_true(lambda: receiver.probes == 1)
    receiver.gate.set()
    await asyncio.gather(*both)

    assert receiver.probes == 1


async def test_only_a_silent_side_is_probed() -> None:
    """As long as it shows that it is alive, no probe is needed."""
    receiver, clock = Receiver(), Clock()
    link = LinkState(clock)
    link.note_alive()
    probes = Probing(link, receiver.probe, 300.0)
    clock.now += 299
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(probes.run(), 0.01)
    assert receiver.probes == 0
    clock.now += 2
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(probes.run(), 0.01)
    assert receiver.probes == 1


@pytest.mark.parametrize("every", [0.0, 300.0])
async def test_without_a_probe_or_a_time_nothing_runs(every: float) -> None:
    """The work ends at once."""
    receiver, link = Receiver(), LinkState()

    await asyncio.wait_for(Probing(link, None if every else receiver.probe, every).run(), 1)
    assert receiver.probes == 0
