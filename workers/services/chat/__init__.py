"""The chat service: a platform whose terminal is `garrison chat`, with the agent to answer.

The conversation travels with each line, from the terminal through here to the agent and back. So
chat, the agent and its model may each die between two lines, or within one, and it goes on.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from garrison.ipc import RemoteError, State, state
from garrison.workers import Content, Memory, Plugin, Runtime, Service, idempotent

from .rooms import Room, Rooms

LINES = 32  # of a conversation travel, the last ones
LINE = 4_000  # characters of each that do
LONGEST = 65_536  # characters of a line
LOOK_S = 0.25  # between two looks of a listener at whether this service goes on
NOBODY = "nobody is here to answer: no agent is configured. In config.toml, add [plugins.agent]"


class Conversation(msgspec.Struct, omit_defaults=True):
    """All that one conversation has come to; the terminal hands it in with each line."""

    room: str = ""  # its room_id; a new one where it is empty
    number: int = 0  # of its lines
    lines: list[Memory] = []  # the last ones, with what was said to them, the oldest first


class Reply(msgspec.Struct):
    """What was answered, by whom, and the conversation to hand in with the next line."""

    text: str  # empty where nothing was said
    conversation: Conversation
    answerer: str  # the character's name
    messages: list[str] = []  # what else was said in the room meanwhile


class Greeting(msgspec.Struct):
    """What an agent's `greeting` returns."""

    text: str = ""
    name: str = ""


class ChatService(Service):
    """People at a terminal."""

    service_type = "chat"
    capability_description = "Takes lines from a terminal and has the agent answer them"

    class Config(msgspec.Struct):
        """`[services.chat.config]` has no keys."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self._rooms = Rooms()
        self._changed: dict[Room, asyncio.Event] = {}

    @idempotent
    async def greeting(self) -> Reply:
        """Return what the agent says before the first line, and a conversation to begin with."""
        agent: Any = self._agent()
        told = Greeting()
        if "greeting" in dir(agent):  # an agent of somebody else's may have none
            with _plainly():
                told = msgspec.convert(await agent.greeting(), Greeting)
        conversation = Conversation(str(uuid.uuid4()))
        return Reply(told.text, conversation, told.name or self._name)

    @idempotent
    async def say(self, text: str, conversation: Conversation | None = None) -> Reply:
        """Return the answer to one line; None begins a conversation.

        The same line, said again with the same conversation, is answered once.

        Raises:
            LookupError: Nobody is there to answer.
            ValueError: The line is longer than 65,536 characters.
        """
        self._agent()
        if len(text) > LONGEST:
            raise ValueError(f"a line has at most {LONGEST} characters, not {len(text)}")
        before = conversation or Conversation()
        room_id = before.room or str(uuid.uuid4())
        line = self._line(text, room_id, before.number)
        earlier = before.lines[-LINES:]
        # An incarnation of the agent that knows nothing of the room learns it from these.
        asked = msgspec.structs.replace(line, metadata={"earlier": earlier} if earlier else {})
        room = self._rooms.enter(room_id)
        with self._answering(room_id, room) as said, _plainly():
            done = await self.runtime.process_actions(asked, [])
            answers = [answer for answer in done.responses if answer.content.text.strip()]
            said += [answer.content.text for answer in answers]
        lines = [*earlier, _kept(line), *map(_kept, answers)][-LINES:]
        others = list(room.take())  # with the reply rather than to a listener who may be late
        self._rooms.leave(room_id)
        after = Conversation(room_id, before.number + 1, lines)
        return Reply("\n".join(said), after, self._name, others)

    @idempotent
    async def send_message(self, channel_id: str, text: str) -> None:
        """Show a text in a room: at once where somebody listens, else with its next line.

        What waits is lost with this process; it is bounded, and the oldest gives way.
        """
        room = self._rooms.enter(channel_id)
        room.put(text)
        self._wake(room)

    async def listen(self, room_id: str) -> AsyncIterator[str]:
        """Yield what is said in a room besides the answers to its lines, as it comes.

        It ends when this service is about to end, or when too many others have come since.
        """
        own = self.runtime.get_service(self.runtime.name)
        room = self._rooms.enter(room_id)
        room.users += 1
        changed = self._changed.setdefault(room, asyncio.Event())
        try:
            while self._rooms.holds(room_id, room) and own and state(own) is not State.STOPPING:
                changed.clear()
                for text in room.take():
                    yield text
                await _set_within(changed, LOOK_S)
        finally:
            self._leave(room_id, room)

    async def stop(self) -> None:
        """End at once: what waits for a terminal is lost."""

    # --- asking ----------------------------------------------------------------------------

    def _agent(self) -> object:
        agent = self.runtime.get_service("agent")
        if agent is None:
            raise LookupError(NOBODY)
        return agent

    @property
    def _name(self) -> str:
        return self.runtime.character.name

    def _line(self, text: str, room_id: str, number: int) -> Memory:
        """Return a line as a message. Its id is made from what it is, so that it is answered once,
        however often it is said."""
        return Memory(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room_id}/{number}/{text}")),
            entity_id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room_id}/person")),
            agent_id=self.runtime.agent_id,
            created_at=time.time(),
            room_id=room_id,
            content=Content(text=text, source=self.runtime.name, channel_type="DM"),
        )

    # --- rooms -----------------------------------------------------------------------------

    @contextmanager
    def _answering(self, room_id: str, room: Room) -> Iterator[list[str]]:
        """Hold back what is said in a room while a line of it is answered; the answers, which
        the block fills in, are said with the reply alone."""
        said: list[str] = []
        room.users += 1
        room.answering += 1
        try:
            yield said
        finally:
            room.answering -= 1
            room.answered(said)
            self._wake(room)
            self._leave(room_id, room)

    def _wake(self, room: Room) -> None:
        if room in self._changed:
            self._changed[room].set()

    def _leave(self, room_id: str, room: Room) -> None:
        room.users -= 1
        if not room.users:
            self._changed.pop(room, None)
        self._rooms.leave(room_id)


@contextmanager
def _plainly() -> Iterator[None]:
    """Say that there is no model in the words of who looked for one."""
    try:
        yield
    except RemoteError as error:
        if error.type_name != "ModelUnavailable":
            raise
        raise LookupError(error.detail.partition(": ")[2]) from error


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _kept(memory: Memory) -> Memory:
    """Return what is kept of a message for those that come after it."""
    content = msgspec.structs.replace(memory.content, text=memory.content.text[:LINE])
    return msgspec.structs.replace(memory, content=content, embedding=None, metadata={})


plugin = Plugin(name="chat", services=[ChatService])
