"""Messages arrive once and in order, whatever a connection loses."""

import random

import pytest

from garrison.supervisor.processes import node_stream
from garrison.supervisor.processes.node_stream import AGAIN_S, Inbox, Outbox, StreamOverflow


def test_only_the_next_message_is_taken() -> None:
    """A repeated one is dropped, and so is one after a gap; those without a number are taken."""
    inbox = Inbox()
    assert [inbox.take(number) for number in (1, 1, 3, 2, 0, 3)] == [
        *(True, False, False, True, True, True)
    ]
    assert inbox.received == 3


def test_what_was_not_received_is_sent_again() -> None:
    """Once the other side had time to acknowledge it, and not more often."""
    outbox = Outbox()
    assert [outbox.add(body, 10.0) for body in (b"a", b"b", b"c")] == [1, 2, 3]

    assert outbox.late(10.0 + AGAIN_S / 2) == []
    assert outbox.late(10.0 + AGAIN_S) == [(1, b"a"), (2, b"b"), (3, b"c")]
    assert outbox.late(10.1 + AGAIN_S) == []
    outbox.acknowledge(2, 12.0)
    assert outbox.late(12.0 + AGAIN_S) == [(3, b"c")]
    outbox.acknowledge(3, 13.0)
    assert (len(outbox), outbox.late(99.0)) == (0, [])


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By number and by size: then the session ends."""
    monkeypatch.setattr(node_stream, "KEPT_MESSAGES", 2)
    monkeypatch.setattr(node_stream, "KEPT_BYTES", 10)
    outbox = Outbox()
    outbox.add(b"12345678", 0.0)
    with pytest.raises(StreamOverflow):
        outbox.add(b"123", 0.0)
    outbox.add(b"1", 0.0)
    with pytest.raises(StreamOverflow):
        outbox.add(b"", 0.0)


def test_everything_arrives_once_and_in_order() -> None:
    """Over a connection that loses messages and acknowledgements at random."""
    for seed in range(50):
        chance = random.Random(seed)
        outbox, inbox, taken, now = Outbox(), Inbox(), list[bytes](), 0.0
        sent = [str(number).encode() for number in range(30)]
        wire = [(outbox.add(body, now), body) for body in sent]
        while len(outbox):
            for number, body in wire:
                if chance.random() < 0.6 and inbox.take(number):
                    taken.append(body)
            now += AGAIN_S
            if chance.random() < 0.6:
                outbox.acknowledge(inbox.received, now)
            wire = outbox.late(now + AGAIN_S)
        assert taken == sent
