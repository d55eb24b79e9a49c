"""Any history of one receiver's messages: each is delivered, in order, and memory is bounded."""

from hypothesis import given, settings
from hypothesis import strategies as st

from garrison.workers.services.mailbox import lanes as mailbox_lanes
from garrison.workers.services.mailbox.lanes import ReceiverQueue
from garrison.workers.services.mailbox.schema import Message

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["post", "post", "read", "begin", "fly", "land", "back", "drop"]),
        st.integers(0, 5),
    ),
    max_size=200,
)


class Model:
    """The disk beside a lane: what waits there, and the readings and posts not told of yet."""

    def __init__(self, window: int) -> None:
        self.lane = ReceiverQueue("bot")
        self.lane.window = window
        self.disk: dict[int, Message] = {}
        self.seq = 0
        self.notices: list[Message | tuple[list[Message], bool]] = []  # commits, in their order
        self.flown: list[int] = []
        self.flying: dict[int, Message] = {}
        self.landed: list[int] = []

    def post(self, size: int) -> None:
        self.seq += 1
        letter = Message(
            id=str(self.seq),
            receiver="bot",
            method="m",
            args=b"x" * (size * 100),
            kwargs=b"",
            seq=self.seq,
        )
        self.disk[self.seq] = letter
        self.notices.append(letter)

    def begin(self) -> None:
        if self.lane.wants_more:
            self.lane.reading = True
            after = self.lane.after
            found = [one for seq, one in sorted(self.disk.items()) if seq > after]
            most, size, kept = mailbox_lanes.MOST, 0, list[Message]()
            for letter in found[:most]:
                size += letter.size
                if kept and size > self.lane.room:
                    break
                kept.append(letter)
            self.notices.append((kept, len(kept) == len(found) < most))

    def tell(self) -> None:
        while self.notices:
            what = self.notices.pop(0)
            if isinstance(what, Message):
                self.lane.posted(what)
            else:
                self.lane.read(*what)

    def fly(self) -> None:
        letter = self.lane.next()
        if letter is not None:
            if letter.seq not in self.flown:
                assert not self.flown or letter.seq > max(self.flown), "out of order"
                self.flown.append(letter.seq)
            assert letter.seq not in self.flying
            assert letter.seq not in self.landed
            self.flying[letter.seq] = letter
            assert len(self.flying) <= self.lane.window

    def land(self, which: int) -> None:
        if self.flying:
            seq = sorted(self.flying)[which % len(self.flying)]
            letter = self.flying.pop(seq)
            del self.disk[seq]
            self.lane.landed(letter)
            self.landed.append(seq)

    def back(self, which: int) -> None:
        if self.flying:
            seq = sorted(self.flying)[which % len(self.flying)]
            self.lane.back(self.flying.pop(seq))

    def drop(self, which: int) -> None:
        waiting = [seq for seq in self.disk if seq not in self.flying]
        if waiting and not self.notices:
            seq = waiting[which % len(waiting)]
            self.lane.forget([self.disk.pop(seq).id])
            self.landed.append(seq)


@settings(max_examples=300)
@given(steps=STEPS, window=st.integers(1, 3), most=st.integers(2, 8), size=st.integers(400, 3000))
def test_every_message_flies_in_order_and_none_is_forgotten(
    steps: list[tuple[str, int]], window: int, most: int, size: int
) -> None:
    """However posts, readings, acknowledgements and failures mix; the lane's memory is bounded."""
    before = mailbox_lanes.MOST, mailbox_lanes.MOST_BYTES
    mailbox_lanes.MOST, mailbox_lanes.MOST_BYTES = most, size
    try:
        model = Model(window)
        for step, number in steps:
            match step:
                case "post":
                    model.post(number)
                case "begin":
                    model.begin()
                case "read":
                    model.tell()
                case "fly":
                    model.fly()
                case "land":
                    model.land(number)
                case "back":
                    model.back(number)
                case "drop":
                    model.drop(number)
            assert len(model.lane._ready) <= most + window
        while model.disk:  # what is left is delivered as well
            left = len(model.disk)
            model.begin()
            model.tell()
            model.fly()
            model.land(0)
            assert len(model.disk) < left or model.lane.reading or model.lane.wants_more, "stuck"
    finally:
        mailbox_lanes.MOST, mailbox_lanes.MOST_BYTES = before
    assert sorted(model.landed) == list(range(1, model.seq + 1))
