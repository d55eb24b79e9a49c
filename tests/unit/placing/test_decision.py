"""Which node a service runs on."""

import pytest

from garrison.supervisor.placing.decision import (
    Answer,
    Demand,
    Held,
    NodeOffer,
    Placed,
    Unplaceable,
    decide,
    may_move,
)

GIB = 2.0**30
HERE = NodeOffer("supervisor", {"CPU": 2, "memory": 4 * GIB})
BOX = NodeOffer("box", {"CPU": 8, "GPU": 2, "memory": 64 * GIB})
FAR = NodeOffer("far", {"CPU": 8, "GPU": 1})
GONE = NodeOffer("gone", {"CPU": 64, "GPU": 8}, problem="has no contact")
DRAINED = NodeOffer("old", {"CPU": 64, "GPU": 8}, avoided="is drained")
ALL = [HERE, BOX, FAR, GONE, DRAINED]


def place(demand: Demand, held: Held | None = None, *, expected: tuple[str, ...] = ()) -> Answer:
    return decide(demand, ALL, held or {}, expected)


@pytest.mark.parametrize(
    ("demand", "held", "node"),
    [
        (Demand("a"), {}, "supervisor"),
        (Demand("a", "box"), {}, "box"),
        (Demand("a", "old"), {}, "old"),
        (Demand("a", resources={"GPU": 1}), {}, "box"),
        (Demand("a", resources={"GPU": 1}), {"b": ("box", {"GPU": 2})}, "far"),
        (Demand("a", resources={"GPU": 1}), {"a": ("box", {"GPU": 2})}, "box"),
        (Demand("a", resources={"GPU": 0.5}), {"b": ("far", {"GPU": 0.5})}, "box"),
        (Demand("a", resources={"GPU": 0.1}), {"b": ("box", {"GPU": 1.9})}, "far"),
        (Demand("a", "box", {"GPU": 0.1}), {"b": ("box", {"GPU": 1.9})}, "box"),
        (Demand("a", resources={"memory": 5 * GIB}), {}, "box"),
        (Demand("a", last="far"), {}, "far"),
        (Demand("a", last="gone"), {}, "supervisor"),
        (Demand("a", last="old"), {}, "supervisor"),
        (Demand("a", last="old", has_data=True), {}, "old"),
        (Demand("a", last="far", has_data=True), {}, "far"),
        (Demand("a"), {"b": ("supervisor", {})}, "box"),
        (Demand("a"), {"b": ("supervisor", {}), "c": ("box", {})}, "far"),
        (Demand("a"), {"b": ("supervisor", {"CPU": 1}), "c": ("box", {"CPU": 7})}, "far"),
        (
            Demand("a", resources={"CPU": 2}),
            {"b": ("supervisor", {}), "c": ("box", {}), "d": ("far", {"CPU": 7})},
            "box",
        ),
    ],
)
def test_where_a_service_starts(demand: Demand, held: Held, node: str) -> None:
    """Its pin and its data decide, then what it needs, then where it was, then the load."""
    assert place(demand, held) == Placed("a", node)


@pytest.mark.parametrize(
    ("demand", "held", "reason"),
    [
        (Demand("a", "box2"), {}, "waits for node box2, which has no key: garrison node keys box2"),
        (Demand("a", "gone"), {}, "waits for node gone, which has no contact"),
        (
            Demand("a", last="gone", has_data=True),
            {},
            "waits for node gone, which has no contact, where its data is: name its node, or set",
        ),
        (
            Demand("a", "far", {"GPU": 1}),
            {"b": ("far", {"GPU": 0.25})},
            "waits for GPU 1 (0.75 of 1 is free) on node far",
        ),
        (
            Demand("a", "supervisor", {"GPU": 1}),
            {},
            "waits for GPU 1 (it has none) on the supervisor's machine",
        ),
        (
            Demand("a", resources={"GPU": 4, "memory": 2 * GIB}),
            {},
            "waits for a node: the supervisor's machine lacks GPU 4 (it has none); node box lacks "
            "GPU 4 (2 of 2 is free); node far lacks GPU 4 (1 of 1 is free), memory 2 GiB (it has "
            "none); node gone has no contact; node old is drained",
        ),
    ],
)
def test_why_a_service_waits(demand: Demand, held: Held, reason: str) -> None:
    """The reason names each node, and what it lacks."""
    answer = place(demand, held)
    assert isinstance(answer, Unplaceable)
    assert answer.reason.startswith(reason)
    assert not answer.soon


def test_nodes_that_are_about_to_report_in_are_waited_for() -> None:
    """Without a pin a service waits for them, with one it does not."""
    answer = place(Demand("a"), expected=("box", "gone"))
    assert answer == Unplaceable("a", "waits for node gone to report in", soon=True)
    assert place(Demand("a"), expected=("box",)) == Placed("a", "supervisor")
    assert place(Demand("a", last="far"), expected=("gone",)) == Placed("a", "far")
    assert place(Demand("a", "box"), expected=("gone",)) == Placed("a", "box")


@pytest.mark.parametrize(
    ("demand", "why"),
    [
        (Demand("a"), ""),
        (Demand("a", last="box"), ""),
        (Demand("a", "box"), 'node = "box"'),
        (Demand("a", last="box", has_data=True), "its data is there"),
    ],
)
def test_what_leaves_a_drained_node(demand: Demand, why: str) -> None:
    """What its config or its data binds to the node stays."""
    assert why in may_move(demand, "box")
    assert bool(may_move(demand, "box")) == bool(why)
