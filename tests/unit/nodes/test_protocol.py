"""Messages between the supervisor and a node: each one arrives as it was sent."""

from pathlib import Path

import pytest

from garrison.ipc.errors import WireError
from garrison.ipc.flight_record import RecordedCall, RecordedCalls
from garrison.supervisor.config.spec import ProcessLimits
from garrison.supervisor.lifecycle.handle import Handle
from garrison.supervisor.lifecycle.limits import Used
from garrison.supervisor.processes import engine, node_protocol
from garrison.supervisor.processes.engine import Measured
from garrison.supervisor.processes.node_protocol import Header, KnownWorker

KEY = b"g" + bytes(range(15))
HANDLE = Handle(12, 3456, (7, 8))
LIMITS = ProcessLimits(memory_max=1 << 30, working_directory=Path("/srv"))
DOWN: list[node_protocol.Downward] = [
    node_protocol.Adopt(10.0, 5.0, True, 1 << 20, ("json",), (KnownWorker(KEY, "a", HANDLE),)),
    node_protocol.Identify(),
    node_protocol.Refused("another one"),
    node_protocol.Renewed(3),
    node_protocol.Received(),
    node_protocol.Fork(KEY, "a", b"\xff\0", LIMITS, "a", "", {"PATH": "/bin"}),
    node_protocol.Watch(KEY, LIMITS),
    node_protocol.SignalWorker(KEY, 9, True),
    node_protocol.Preload(("json",), False),
    node_protocol.Dump(KEY, True),
    node_protocol.Report(KEY),
    node_protocol.Discard(KEY),
    node_protocol.MeasureCommand(KEY),
    node_protocol.Leave(True),
]
UP: list[node_protocol.Upward] = [
    node_protocol.NodeHello("box", 1, b"i" * 8, b"p" * 8, "h", "3.11", "0.1", {"a": "1"}, 5),
    node_protocol.Renew(3),
    node_protocol.Received(),
    node_protocol.Inventory((KnownWorker(KEY, "a", HANDLE),), frozenset({b"x"})),
    node_protocol.Sample(
        (node_protocol.WorkerSample(KEY, Measured(1, 2.0, Used(3.0, 4, 5), 6.0), 0.5),),
        node_protocol.Machine(2, 0.5, 8, 4, ("mailbox",)),
        (HANDLE,),
    ),
    node_protocol.LogChunk("a", b"line\n\xff", 3),
    node_protocol.Leaving(),
    node_protocol.Left(),
]
CALL = RecordedCall(1, 1, "peer", "echo", 2, 3.0, 4)
EVENTS: list[engine.Happened] = [
    engine.Forked(KEY, HANDLE, ("memory",)),
    engine.NotForked(KEY, "no", True),
    engine.Died(KEY, {b"a": 1}),
    engine.Died(KEY),
    engine.Ended(KEY, 9, 1.0, 2.0, 3, True, False),
    engine.Gone(KEY, (HANDLE,)),
    engine.Lost(HANDLE, 2, True),
    engine.Usage(KEY, Used(1.0, 2, 3)),
    engine.FlightRecord(KEY, RecordedCalls((CALL,), 1)),
    engine.LogTail(KEY, "log", "stacks", False),
    engine.Preloaded({"m": "error"}, ("t",), 1.0, {"o": "a socket"}),
]


@pytest.mark.parametrize("message", DOWN, ids=lambda one: type(one).__name__)
def test_commands_arrive(message: node_protocol.Downward) -> None:
    """As they were sent."""
    assert node_protocol.decode_downward(node_protocol.encode(message)) == message


@pytest.mark.parametrize("message", UP, ids=lambda one: type(one).__name__)
def test_reports_arrive(message: node_protocol.Upward) -> None:
    """As they were sent."""
    assert node_protocol.decode_upward(node_protocol.encode(message)) == message


@pytest.mark.parametrize("event", EVENTS, ids=lambda one: type(one).__name__)
def test_events_of_engines_arrive(event: engine.Happened) -> None:
    """With their types and bytes."""
    message = node_protocol.report_of(event)
    assert message is not None
    arrived = node_protocol.decode_upward(node_protocol.encode(message))
    assert isinstance(arrived, node_protocol.Reported)
    assert node_protocol.event_of(arrived) == event


def test_every_message_has_a_sample() -> None:
    """A new one is tested, too."""
    down, up = (set(union.__args__) for union in (node_protocol.Downward, node_protocol.Upward))
    assert down == {type(one) for one in DOWN}
    assert up == {type(one) for one in UP} | {node_protocol.Reported}


def test_what_is_of_no_concern_elsewhere_is_not_sent() -> None:
    """What an engine finds of its own launchers."""
    assert node_protocol.report_of(engine.Found()) is None


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x81\xa4type\xa4none", b"\x93\xc4\x01a\x00"])
def test_other_bytes_are_refused(data: bytes) -> None:
    """They raise what is counted, and end nothing."""
    for decode in (node_protocol.decode_upward, node_protocol.decode_downward):
        with pytest.raises(WireError):
            decode(data)
    with pytest.raises(WireError):
        node_protocol.decode_header(data)


def test_a_header_is_small() -> None:
    """It stands before each message."""
    header = Header(b"s" * 8, 1000, 2000)
    data = node_protocol.encode(header)
    assert node_protocol.decode_header(data) == header
    assert len(data) < 20


@pytest.mark.parametrize("process", [b"p" * 8, b"\0" * 8, b"ab\0cdefg"])
def test_a_routing_id_names_its_node(process: bytes) -> None:
    """Whatever the random part of it is; other ids are of no node."""
    assert node_protocol.name_in(node_protocol.routing_id("gpu-box", process)) == "gpu-box"


@pytest.mark.parametrize("identity", [b"", b"n", b"nbox", b"nbox\0short", b"gbox\0" + b"p" * 8])
def test_other_routing_ids_are_of_no_node(identity: bytes) -> None:
    """Those of workers, for example."""
    assert node_protocol.name_in(identity) == ""
