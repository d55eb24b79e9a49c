"""Where a message goes, and which members an end is announced to."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from garrison.ipc.messages import (
    EMPTY_MAP,
    FULL,
    GONE,
    SUPERVISOR,
    Call,
    Reply,
    decode_data,
    encode,
)
from garrison.ipc.messages.codec import FEW
from garrison.supervisor.bus.routes import (
    READ_MOST,
    ROUTED_FRAMES,
    Frames,
    PeerTable,
    calls_alone,
    route,
)

A, B, UNKNOWN = b"g-a", b"g-b", b"g-unknown"
LIVE = {A, B}
MOST = 1000  # bytes of one message


def test_a_message_goes_to_its_destination_with_its_true_source() -> None:
    """Source and destination change places; the batch and the blobs pass unread."""
    assert route([A, B, b"batch", b"blob", b""], LIVE, LIVE, MOST) == [B, A, b"batch", b"blob", b""]


def test_a_member_may_send_to_itself() -> None:
    """A service can call itself."""
    assert route([A, A, b"batch"], LIVE, LIVE, MOST) == [A, A, b"batch"]


@pytest.mark.parametrize("destination", [UNKNOWN, SUPERVISOR, GONE, FULL, b"g"])
def test_an_undeliverable_message_returns_to_its_sender(destination: bytes) -> None:
    """Its sender gets the address that does not exist and the batch that was not run."""
    assert route([A, destination, b"batch", b"blob"], LIVE, LIVE, MOST) == [
        A,
        GONE,
        destination,
        b"batch",
    ]


def a_batch(count: int, size: int) -> bytes:
    """Return calls and replies by turns, so many of either, of so many bytes."""
    value = msgspec.Raw(encode(bytes(size)))
    arguments = msgspec.Raw(encode([bytes(size)]))
    return encode(
        [
            one
            for number in range(count)
            for one in (Call(number, "f", arguments, EMPTY_MAP, 5.0), Reply(number, value))
        ]
    )


@pytest.mark.parametrize(("count", "size"), [(1, 500_000), (40, 5000), (2000, 3)])
def test_of_a_large_batch_that_returns_the_calls_are_named(count: int, size: int) -> None:
    """Its sender has them still; no caller gets the replies any more."""
    batch = a_batch(count, size)
    short = calls_alone(batch)
    found = decode_data(short)
    assert [one.id if isinstance(one, Call) else -1 for one in found] == list(range(count))
    assert len(short) < 24 * (count + 1) <= len(batch)


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 70_000, 2**32, 2**63 - 1])
def test_of_a_very_large_batch_the_head_alone_is_read(number: int) -> None:
    """It has one message. To read its small values would take long, so they need not be valid."""
    value = msgspec.Raw(b"\xdd\xff\xff\xff\xff" + b"\x01" * READ_MOST)
    call = encode([Call(number, "f", value, EMPTY_MAP, 5.0)])
    found = decode_data(calls_alone(call))
    assert [one.id for one in found if isinstance(one, Call)] == [number]
    assert calls_alone(encode([Reply(number, value)])) == encode([])


@pytest.mark.parametrize("head", ["92", "dc0001", "9105", "919700ff", "91970080", "919700a1"])
def test_a_very_large_batch_of_something_else_returns_as_it_is(head: str) -> None:
    """Members split their batches, so this is from something else."""
    batch = bytes.fromhex(head) + bytes(READ_MOST)
    assert calls_alone(batch) == batch


@pytest.mark.parametrize(
    "batch",
    [a_batch(2, 10), a_batch(FEW, 10), b"\x91" + bytes(10_000), encode([[99, 1]] * 5000)],
    ids=["small", "many messages", "no batch", "unknown messages"],
)
def test_any_other_batch_returns_as_it_is(batch: bytes) -> None:
    """The time to read it is bounded."""
    assert calls_alone(batch) == batch


@pytest.mark.parametrize("destination", [A, UNKNOWN, b""])
def test_an_unknown_source_reaches_no_member(destination: bytes) -> None:
    """It may be a program that is yet to join: its message is to be sent again later."""
    assert route([UNKNOWN, destination, b"batch"], LIVE, LIVE, MOST) == [
        UNKNOWN,
        FULL,
        destination,
        b"batch",
    ]


@pytest.mark.parametrize(("source", "destination"), [(A, B), (B, A), (B, B)])
def test_a_member_that_is_yet_to_connect_neither_sends_nor_receives(
    source: bytes, destination: bytes
) -> None:
    """What was meant for a former router is sent again to this one, after the Sync."""
    assert route([source, destination, b"batch"], LIVE, {A}, MOST) == [
        source,
        FULL,
        destination,
        b"batch",
    ]


@pytest.mark.parametrize(
    "frames", [[], [A], [A, B], [A, b""], [A, B, *[b"x"] * (ROUTED_FRAMES - 1)]]
)
def test_what_has_not_three_frames_or_too_many_is_refused(frames: Frames) -> None:
    """It is no message of ours, wherever it would go."""
    assert route(frames, LIVE, LIVE, MOST) is None


def test_large_frames_count_together() -> None:
    """What its receiver would refuse for its size does not travel at all."""
    half = b"x" * (MOST // 2)
    assert route([A, B, b"batch", half], LIVE, LIVE, MOST) == [B, A, b"batch", half]
    assert route([A, B, b"batch", half, half], LIVE, LIVE, MOST) is None


def test_the_most_frames_pass() -> None:
    """The bound counts source, destination, batch and blobs together."""
    frames = [A, B, *[b"x"] * (ROUTED_FRAMES - 2)]

    passed = route(frames, LIVE, LIVE, MOST)

    assert passed is not None
    assert len(passed) == ROUTED_FRAMES


@given(frames=st.lists(st.one_of(st.sampled_from([A, B, UNKNOWN]), st.binary(max_size=4))))
@settings(max_examples=examples(300))
def test_any_frames_go_to_members_alone(frames: Frames) -> None:
    """What is sent on goes to a live member, and names a live source or none."""
    before = list(frames)
    sent = route(frames, LIVE, LIVE, MOST)

    if sent is not None and before[0] not in LIVE:
        assert sent[:2] == [before[0], FULL]
    elif sent is not None:
        assert sent[0] in LIVE
        assert sent[1] in {before[0], GONE}
        assert before[2] in sent


# --- pairs --------------------------------------------------------------------------------


def test_an_end_concerns_all_partners() -> None:
    """To those that sent to it or received from it, and no others."""
    pairs = PeerTable()
    pairs.count(b"caller", b"x")
    pairs.count(b"x", b"callee")
    pairs.count(b"caller", b"callee")

    assert pairs.forget(b"x") == {b"caller", b"callee"}


def test_who_is_forgotten_leaves_nothing_behind() -> None:
    """A second end is announced to no member, nor is the partner's end to the first."""
    pairs = PeerTable()
    pairs.count(b"caller", b"x")
    pairs.count(b"x", b"callee")
    pairs.forget(b"x")

    assert pairs.forget(b"x") == set()
    assert pairs.forget(b"caller") == set()
    assert pairs.forget(b"callee") == set()


def test_messages_are_counted_by_pair() -> None:
    """What is returned is a copy."""
    pairs = PeerTable()
    for _ in range(3):
        pairs.count(b"a", b"x")
    pairs.count(b"b", b"x")

    counted = pairs.to(b"x")
    assert counted == {b"a": 3, b"b": 1}
    counted.clear()
    assert pairs.to(b"x") == {b"a": 3, b"b": 1}
    assert pairs.to(b"unknown") == {}


def test_forgetting_does_not_grow() -> None:
    """Ten thousand incarnations that came, spoke and went leave one row."""
    pairs = PeerTable()
    for number in range(10_000):
        token = b"g%d" % number
        pairs.count(token, b"stays")
        pairs.count(b"stays", token)
        assert pairs.forget(token) == {b"stays"}

    assert len(pairs._sent) <= 1
    assert pairs.to(b"stays") == {}
