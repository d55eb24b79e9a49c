"""Any history of messages without a lane: each is delivered in order; memory is bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from garrison.workers.services.mailbox import plain_queue
from garrison.workers.services.mailbox.checksums import Message
from garrison.workers.services.mailbox.plain_queue import PlainQueue

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["post", "post", "commit", "read", "take", "finish", "put back", "drop"]),
        st.integers(0, 5),
    ),
    max_size=200,
)


class Model:
    """The disk beside a queue: what waits there, and commits not yet reported to the queue."""

    def __init__(self, window: int) -> None:
        self.queue = PlainQueue()
        self.window = window
        self.disk: dict[int, Message] = {}
        self.seq = 0
        self.commits: list[Message | tuple[list[Message], bool]] = []  # in their order
        self.taken: list[int] = []
        self.in_flight: dict[int, Message] = {}
        self.finished: list[int] = []

    def post(self, size: int) -> None:
        self.seq += 1
        message = Message(
            id=str(self.seq),
            receiver="bot",
            method="m",
            args=b"x" * (size * 100),
            kwargs=b"",
            seq=self.seq,
        )
        self.disk[self.seq] = message
        self.commits.append(message)

    def read(self) -> None:
        if self.queue.needs_more:
            self.queue.is_reading = True
            after = self.queue.last_seq
            found = [message for seq, message in sorted(self.disk.items()) if seq > after]
            most, size, kept = plain_queue.MAX_MESSAGES, 0, list[Message]()
            for message in found[:most]:
                size += message.size
                if kept and size > self.queue.free_bytes:
                    break
                kept.append(message)
            self.commits.append((kept, len(kept) == len(found) < most))

    def commit(self) -> None:
        while self.commits:
            commit = self.commits.pop(0)
            if isinstance(commit, Message):
                self.queue.add_posted(commit)
            else:
                self.queue.add_read(*commit)

    def take(self) -> None:
        is_free = len(self.queue.in_flight) < self.window
        message = self.queue.take_next() if is_free else None
        if message is not None:
            if message.seq not in self.taken:
                assert not self.taken or message.seq > max(self.taken), "out of order"
                self.taken.append(message.seq)
            assert message.seq not in self.in_flight
            assert message.seq not in self.finished
            self.in_flight[message.seq] = message
            assert len(self.in_flight) <= self.window

    def finish(self, which: int) -> None:
        if self.in_flight:
            seq = sorted(self.in_flight)[which % len(self.in_flight)]
            message = self.in_flight.pop(seq)
            del self.disk[seq]
            self.queue.remove(message)
            self.finished.append(seq)

    def put_back(self, which: int) -> None:
        if self.in_flight:
            seq = sorted(self.in_flight)[which % len(self.in_flight)]
            self.queue.put_back(self.in_flight.pop(seq))

    def drop(self, which: int) -> None:
        waiting = [seq for seq in self.disk if seq not in self.in_flight]
        if waiting and not self.commits:
            seq = waiting[which % len(waiting)]
            self.queue.discard({self.disk.pop(seq).id})
            self.finished.append(seq)


@settings(max_examples=examples(300))
@given(steps=STEPS, window=st.integers(1, 3), most=st.integers(2, 8), size=st.integers(400, 3000))
def test_every_message_is_delivered_in_order_and_none_is_lost(
    steps: list[tuple[str, int]], window: int, most: int, size: int
) -> None:
    """In any mix of posts, reads, acknowledgements and failures; the queue's memory is bounded."""
    before = plain_queue.MAX_MESSAGES, plain_queue.MAX_BYTES
    plain_queue.MAX_MESSAGES, plain_queue.MAX_BYTES = most, size
    try:
        model = Model(window)
        for step, number in steps:
            match step:
                case "post":
                    model.post(number)
                case "read":
                    model.read()
                case "commit":
                    model.commit()
                case "take":
                    model.take()
                case "finish":
                    model.finish(number)
                case "put back":
                    model.put_back(number)
                case "drop":
                    model.drop(number)
            assert len(model.queue._ready) <= most + window
        while model.disk:  # the rest is delivered as well
            left = len(model.disk)
            model.read()
            model.commit()
            model.take()
            model.finish(0)
            is_progress = len(model.disk) < left or model.queue.is_reading
            assert is_progress or model.queue.needs_more, "stuck"
    finally:
        plain_queue.MAX_MESSAGES, plain_queue.MAX_BYTES = before
    assert sorted(model.finished) == list(range(1, model.seq + 1))
