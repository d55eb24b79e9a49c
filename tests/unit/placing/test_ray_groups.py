"""What becomes of the placement groups in Ray."""

import pytest

from garrison.supervisor.placing.ray_groups import Group, NewGroup, Plan, plan, with_devices
from garrison.supervisor.placing.ray_messages import (
    Known,
    MessageError,
    MessageReader,
    RayNode,
    Want,
    Wanted,
    encoded,
)

OWN, BOX, FAR = RayNode("r0", "supervisor"), RayNode("r1", "box"), RayNode("r2", "far")
NONE = RayNode("r3", problem="m3 has no node: no key")
ALL = (OWN, BOX, FAR, NONE)
GPU = {"GPU": 1.0}


def planned(want: Want, *groups: Group, nodes: tuple[RayNode, ...] = ALL, **wanted: object) -> Plan:
    return plan(Wanted((want,), **wanted), groups, nodes)  # type: ignore[arg-type]


def made(want: Want, nodes: tuple[RayNode, ...] = ALL, **wanted: object) -> NewGroup:
    (new,) = planned(want, nodes=nodes, **wanted).make
    return new


def group_of(want: Want, node_id: str = "", scheduling: str = "", **wanted: object) -> Group:
    """Return the group that was made for a service."""
    new = made(want, **wanted)  # type: ignore[arg-type]
    return Group(new.name, "CREATED" if node_id else "PENDING", new.bundle, node_id, scheduling)


@pytest.mark.parametrize(
    ("want", "wanted", "ids"),
    [
        (Want("a", 1, GPU), {}, ("r0", "r1", "r2")),
        (Want("a", 1, GPU), {"avoid": ("box",)}, ("r0", "r2")),
        (Want("a", 1, GPU), {"problems": {"box": "x", "far": "y"}}, ("r0",)),
        (Want("a", 1, GPU, "box"), {}, ("r1",)),
        (Want("a", 1, GPU, "box"), {"avoid": ("box",)}, ("r1",)),
    ],
)
def test_which_machines_may_take_a_service(
    want: Want, wanted: dict[str, object], ids: tuple[str, ...]
) -> None:
    """Those with a node that takes services; a pinned one has its own alone."""
    assert made(want, **wanted).node_ids == ids  # type: ignore[arg-type]


def test_the_preferred_machine_is_tried_first() -> None:
    """Where it has no room, all are, until the service is placed anew."""
    want = Want("a", 1, GPU, prefer="far")
    first = made(want)
    assert first.node_ids == ("r2",)
    waiting = Group(first.name, "PENDING", first.bundle, "", "QUEUED")
    assert planned(want, waiting) == Plan([], [], planned(want, waiting).known)

    full = Group(first.name, "PENDING", first.bundle, "", "NO_RESOURCES")
    found = planned(want, full)
    assert found.remove == [first.name]
    assert [one.node_ids for one in found.make] == [("r0", "r1", "r2")]
    every = Group(found.make[0].name, "PENDING", first.bundle, "", "QUEUED")
    assert planned(want, every).make == []
    assert made(want, avoid=("far",)).node_ids == ("r0", "r1")
    assert made(Want("a", 1, GPU, prefer="gone")).node_ids == ("r0", "r1", "r2")


def test_a_service_without_resources_takes_next_to_nothing() -> None:
    """Ray places no group that holds nothing."""
    assert made(Want("a", 1, {})).bundle == {"CPU": 0.001}


def test_a_placed_group_stays() -> None:
    """Whatever else may take it by now."""
    want = Want("a", 1, GPU)
    group = group_of(want, "r1")
    for wanted in (Wanted((want,)), Wanted((want,), ("box",)), Wanted((want,), (), {"box": "x"})):
        found = plan(wanted, [group], ALL)
        assert (found.make, found.remove) == ([], [])
        assert found.known.placed == {"a": (1, "box")}


def test_another_epoch_is_another_group() -> None:
    """So a drained node is left, and a lost one."""
    group, want = group_of(Want("a", 1, GPU), "r1"), Want("a", 2, GPU)
    found = planned(want, group, avoid=("box",))
    assert [one.node_ids for one in found.make] == [("r0", "r2")]
    assert found.remove == [group.name]
    assert found.known.placed == {}


def test_what_runs_keeps_its_group() -> None:
    """The next supervisor finds it, unless the service needs something else now."""
    group = group_of(Want("a", 1, GPU), "r1")
    holds = Want("a", 9, GPU, "box", holds=True)
    assert planned(holds, group) == Plan([], [], Known({"a": (9, "box")}, {}, ALL))
    more = Want("a", 9, {"GPU": 2.0}, "box", holds=True)
    assert planned(more, group).remove == [group.name]
    elsewhere = Want("a", 9, GPU, "far", holds=True)
    assert planned(elsewhere, group).remove == [group.name]


def test_a_group_that_ray_moves_is_followed() -> None:
    """Its machine was lost, and Ray has found another."""
    want = Want("a", 1, GPU)
    moved = Group(group_of(want).name, "CREATED", GPU, "r2")
    assert planned(want, moved).known.placed == {"a": (1, "far")}
    waiting = Group(moved.name, "RESCHEDULING", GPU, "")
    found = planned(want, waiting, nodes=(OWN, FAR))  # made for machines that are gone
    assert (found.remove, [one.node_ids for one in found.make]) == ([moved.name], [("r0", "r2")])


def test_what_is_not_wanted_is_removed() -> None:
    """Also what an earlier host of this home has left."""
    group = group_of(Want("a", 1, GPU), "r1")
    assert plan(Wanted(), [group], ALL).remove == [group.name]
    gone = Group(group.name, "REMOVED")
    assert plan(Wanted(), [gone], ALL).remove == []


@pytest.mark.parametrize(
    ("want", "scheduling", "nodes", "reason"),
    [
        (Want("a", 1, GPU), "INFEASIBLE", ALL, "none that may take it has GPU 1"),
        (Want("a", 1, GPU), "QUEUED", ALL, "GPU 1 is not free"),
        (Want("a", 1, GPU, "bay"), "", ALL, "node bay, which is not in the Ray cluster"),
        (Want("a", 1, GPU), "", (NONE,), "m3 has no node: no key"),
        (Want("a", 1, GPU), "", (), "it has none"),
    ],
)
def test_why_a_service_waits(
    want: Want, scheduling: str, nodes: tuple[RayNode, ...], reason: str
) -> None:
    """The reason is Ray's, in words."""
    groups = [group_of(want, "", scheduling)] if scheduling else []
    epoch, words = planned(want, *groups, nodes=nodes).known.waits["a"]
    assert epoch == 1
    assert reason in words


def test_a_new_group_has_no_reason_yet() -> None:
    """Ray has not looked at it."""
    want = Want("a", 1, GPU)
    assert planned(want).known.waits == {}
    assert planned(want, group_of(want)).known.waits == {}


def test_the_newest_message_counts() -> None:
    """Messages arrive in any pieces; each has everything, so earlier ones mean nothing."""
    first, second = Wanted(avoid=("a",)), Wanted((Want("a", 1, GPU),))
    data, reader = encoded(first) + encoded(second), MessageReader()
    for number in range(len(data) - 1):
        reader.feed(data[number : number + 1])
    assert reader.last(Wanted) == first
    reader.feed(data[-1:])
    assert reader.last(Wanted) == second
    assert reader.last(Wanted) is None


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\1x"])
def test_what_is_no_message(data: bytes) -> None:
    """A size beyond the bound, and a body that is none."""
    reader = MessageReader()
    reader.feed(data)
    with pytest.raises(MessageError):
        reader.last(Known)


def test_a_place_is_known_with_its_gpus() -> None:
    """A service that has none does not wait for them."""
    wanted = Wanted((Want("a", 1, GPU), Want("b", 1, {"x": 1.0}), Want("c", 1, {"GPU": 0.5})))
    known = Known({"a": (1, "box"), "b": (1, "box"), "c": (1, "far")}, {}, ALL)
    found = with_devices(known, {"a": (3,), "gone": (0,)}, wanted)
    assert found == Known({"a": (1, "box"), "b": (1, "box")}, {}, ALL, {"a": (3,)})
