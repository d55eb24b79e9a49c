"""The supervisor's side of placing by Ray: its program may end at any time."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.waiting import until

from garrison.supervisor.placing.decision import Answer, Demand, NodeOffer, Placed, Unplaceable
from garrison.supervisor.placing.ray_client import RayPlacer

FAKE = Path(__file__).parent.parent / "support" / "fake_ray.py"
NODES = [NodeOffer("supervisor", {"CPU": 2.0}), NodeOffer("box"), NodeOffer("far")]
GPU = {"GPU": 1.0}


class Placing:
    """A placer, and the children of this process that it has."""

    def __init__(self, *program: str) -> None:
        self.children = set[int]()
        environ = {"PATH": os.environ["PATH"]}
        command = program or (sys.executable, str(FAKE))
        self.placer = RayPlacer(("box", "x", "y", ""), environ, self.children, command)

    def answer(self, nodes: list[NodeOffer] = NODES, expected: tuple[str, ...] = ()) -> Answer:
        """Return the next answer."""
        found = list[Answer]()

        def turned() -> bool:
            found.extend(self.placer.turn(nodes, expected))
            return bool(found)

        until(turned)
        (one,) = found
        return one

    def kill(self) -> None:
        """Kill the program."""
        (pid,) = self.children
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(name="placing")
def _placing() -> Iterator[Placing]:
    placing = Placing()
    yield placing
    placing.placer.close()
    assert placing.children == set()


def test_services_are_placed_and_what_they_have_is_known(placing: Placing) -> None:
    """An answer comes once; the resources of nodes are Ray's."""
    placing.placer.place(Demand("a", resources=GPU))
    answer = placing.answer()
    assert isinstance(answer, Placed)
    assert (answer.service, answer.node) == ("a", "box")
    assert placing.placer.turn(NODES, ()) == []
    assert placing.placer.resources() == {"box": {"GPU": 2.0}}


def test_a_pin_without_resources_needs_no_ray() -> None:
    """Such services start although there is no cluster."""
    placing = Placing("/no/such/program")
    placing.placer.place(Demand("a", "far"))
    placed = placing.answer()
    assert isinstance(placed, Placed)
    assert placed.node == "far"
    assert placing.placer.due == float("inf")
    placing.placer.place(Demand("b", resources=GPU))
    answer = placing.answer()
    assert isinstance(answer, Unplaceable)
    assert "does not start: No such file" in answer.reason
    assert "does not start" in placing.placer.problem


def test_what_waits_says_why(placing: Placing) -> None:
    """The reason is sent once."""
    placing.placer.place(Demand("w", resources=GPU))
    assert placing.answer() == Unplaceable("w", "waits for luck")
    assert placing.placer.turn(NODES, ()) == []


def test_a_killed_program_changes_nothing_that_runs(placing: Placing) -> None:
    """The next one gets everything again; it answers the requests of meanwhile."""
    placing.placer.place(Demand("a", resources=GPU))
    placing.answer()
    placing.kill()
    until(lambda: placing.placer.turn(NODES, ()) == [] and placing.placer.problem)
    placing.placer.hold(Demand("b", resources=GPU), "far")
    placing.placer.place(Demand("c", resources=GPU))
    answer = placing.answer()
    while isinstance(answer, Unplaceable):
        assert answer.reason.startswith("waits for Ray: ")
        answer = placing.answer()
    assert (answer.service, answer.node) == ("c", "box")
    assert placing.placer.problem == ""


def test_a_program_that_ends_again_and_again_is_started_later_each_time(placing: Placing) -> None:
    """Its last words are shown."""
    placing.placer.place(Demand("end", resources=GPU))
    assert placing.answer() == Unplaceable("end", "waits for Ray: its end was ordered")
    assert placing.children == set()
    assert 0 < placing.placer.due < float("inf")
    placing.placer.withdraw("end")
    assert placing.placer.due == float("inf")


def test_nodes_that_are_about_to_report_in_are_waited_for(placing: Placing) -> None:
    """Ray decides once they have, or the time for that is over."""
    placing.placer.place(Demand("a", resources=GPU))
    (answer,) = placing.placer.turn(NODES, ["late"])
    assert answer == Unplaceable("a", "waits for node late to report in", soon=True)
    assert placing.placer.turn(NODES, ["late"]) == []
    placing.answer()


def test_a_node_that_is_not_in_the_cluster_is_not_waited_for(placing: Placing) -> None:
    """That is known by Ray's first report, for which the program starts at once."""
    placing.placer.place(Demand("a", resources=GPU))
    waits = Unplaceable("a", "waits for node late to report in", soon=True)
    assert placing.answer(expected=("late",)) == waits
    found = placing.answer(expected=("late",))
    assert isinstance(found, Placed)
    assert found.node == "box"


def test_a_node_of_the_cluster_is_waited_for(placing: Placing) -> None:
    """Ray has a machine before its node has contact."""
    placing.placer.place(Demand("a", resources=GPU))
    nodes = [NodeOffer("supervisor"), NodeOffer("box", problem="has no contact")]
    placing.answer(nodes, ("box", "late"))
    found = placing.answer(nodes, ("box", "late"))
    assert found == Unplaceable("a", "waits for node box to report in", soon=True)
    assert placing.placer.turn(nodes, ("box", "late")) == []
    assert isinstance(placing.answer(expected=("box", "late")), Placed)


def test_the_former_node_is_preferred(placing: Placing) -> None:
    """A service that may run anywhere, and has run somewhere."""
    placing.placer.place(Demand("a", resources=GPU, last="far"))
    placing.placer.place(Demand("b", "far", GPU, last="box"))
    assert [(one.node, one.prefer) for one in placing.placer.wants] == [("", "far"), ("far", "")]
