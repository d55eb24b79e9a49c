"""The chat service: passes lines from `garrison chat` to the agent, and answers back.

The terminal sends the conversation with each line and receives it with the reply. So it survives
when chat, the agent or the model is restarted, between two lines or during one.
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

MAX_HISTORY = 32  # messages of a conversation that are sent with a line
MAX_HISTORY_TEXT = 4_000  # characters of each
MAX_LINE = 65_536  # characters
POLL_S = 0.25  # a listener checks this often whether the service stops
NO_AGENT = "no agent is configured to answer. In config.toml, add [plugins.agent]"


class Conversation(msgspec.Struct, omit_defaults=True):
    """The state of one conversation; the terminal sends it with each line."""

    room: str = ""  # its room_id; empty for a new conversation
    number: int = 0  # of lines so far
    lines: list[Memory] = []  # the last lines and answers, the oldest first
    person: str = ""  # id of who writes; empty: the room has a person of its own
    name: str = ""  # of that person, as the agent reads it


class Reply(msgspec.Struct):
    """The answer, and the conversation to send with the next line."""

    text: str  # empty if the agent did not answer
    conversation: Conversation
    answerer: str  # the character's name
    messages: list[str] = []  # other texts for the room that arrived meanwhile


class Greeting(msgspec.Struct):
    """The result of an agent's `greeting`."""

    text: str = ""
    name: str = ""


class ChatService(Service):
    """The platform of `garrison chat`."""

    service_type = "chat"
    capability_description = "Passes lines from a terminal to the agent"

    class Config(msgspec.Struct):
        """`[services.chat.config]` has no keys."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        super().__init__(runtime)
        self._rooms = Rooms()
        self._changed: dict[Room, asyncio.Event] = {}

    @idempotent
    async def greeting(self) -> Reply:
        """Return the agent's greeting and a new conversation."""
        agent: Any = self._agent()
        greeting = Greeting()
        if "greeting" in dir(agent):  # another plugin's agent may have none
            with _missing_model_as_lookup_error():
                greeting = msgspec.convert(await agent.greeting(), Greeting)
        conversation = Conversation(str(uuid.uuid4()))
        return Reply(greeting.text, conversation, greeting.name or self._name)

    @idempotent
    async def say(self, text: str, conversation: Conversation | None = None) -> Reply:
        """Return the answer to one line; None begins a new conversation.

        A line that is repeated with the same conversation is answered once.

        Raises:
            LookupError: There is no agent, or no model.
            ValueError: The line is longer than 65,536 characters.
        """
        self._agent()
        if len(text) > MAX_LINE:
            raise ValueError(f"a line has at most {MAX_LINE} characters, not {len(text)}")
        before = conversation or Conversation()
        room_id = before.room or str(uuid.uuid4())
        line = self._line(text, room_id, before)
        earlier = before.lines[-MAX_HISTORY:]
        # A restarted agent that has lost the room's history takes it from these.
        # Without a text for a failure, the error itself is what the terminal shows.
        metadata = {"failure_text": "", **({"earlier": earlier} if earlier else {})}
        if before.name:
            metadata["entity_name"] = before.name
        message = msgspec.structs.replace(line, metadata=metadata)
        room = self._rooms.enter(room_id)
        if before.person:
            self._rooms.note_person(room_id, before.person)
        with self._answering(room_id, room) as texts, _missing_model_as_lookup_error():
            processed = await self.runtime.process_actions(message, [])
            answers = [one for one in processed.responses if one.content.text.strip()]
            texts += [answer.content.text for answer in answers]
        lines = [*earlier, _shortened(line), *map(_shortened, answers)][-MAX_HISTORY:]
        others = list(room.take())  # in the reply: a listener might receive them too late
        self._rooms.leave(room_id)
        after = Conversation(room_id, before.number + 1, lines, before.person, before.name)
        return Reply("\n".join(texts), after, self._name, others)

    @idempotent
    async def send_message(self, channel_id: str, text: str) -> None:
        """Show a text in a room: at once if a terminal listens, otherwise with its next line.

        Waiting texts are bounded, the oldest is dropped first; they are lost when chat restarts.
        """
        room = self._rooms.enter(channel_id)
        room.put(text)
        self._wake(room)

    async def listen(self, room_id: str) -> AsyncIterator[str]:
        """Yield the texts for a room as they arrive, without the answers to its lines.

        It ends when this service stops, or when the room is discarded in favor of newer ones.
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
                await _wait(changed, POLL_S)
        finally:
            self._leave(room_id, room)

    async def forget_person(self, source: str, person: str) -> dict[str, int]:
        """Drop the texts that wait for a person; the conversation itself is in their terminal."""
        rooms = self._rooms_of(source, person)
        return {"waiting texts": sum(len(list(room.take())) for room in rooms)}

    async def export_person(self, source: str, person: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the texts that wait for a person."""
        for room in self._rooms_of(source, person):
            for text in room.waiting:
                yield {"store": "waiting texts", "text": text}

    def _rooms_of(self, source: str, person: str) -> list[Room]:
        if source != self.runtime.name:
            return []
        return [
            room
            for room_id, room in self._rooms.items()
            if (self._rooms.person(room_id) or _person(room_id)) == person
        ]

    async def stop(self) -> None:
        """Do nothing: waiting texts are lost."""

    # --- the agent --------------------------------------------------------------------------

    def _agent(self) -> object:
        agent = self.runtime.get_service("agent")
        if agent is None:
            raise LookupError(NO_AGENT)
        return agent

    @property
    def _name(self) -> str:
        return self.runtime.character.name

    def _line(self, text: str, room_id: str, before: Conversation) -> Memory:
        """Return a line as a message.

        Its id is derived from room, number and text: a repeated line is answered once.
        """
        return Memory(
            id=str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room_id}/{before.number}/{text}")),
            entity_id=before.person or _person(room_id),
            agent_id=self.runtime.agent_id,
            created_at=time.time(),
            room_id=room_id,
            content=Content(text=text, source=self.runtime.name, channel_type="DM"),
        )

    # --- rooms -----------------------------------------------------------------------------

    @contextmanager
    def _answering(self, room_id: str, room: Room) -> Iterator[list[str]]:
        """Hold texts for a room while a line is answered.

        The block fills the yielded list with the answers. They are shown with the reply only.
        """
        answers: list[str] = []
        room.users += 1
        room.answering += 1
        try:
            yield answers
        finally:
            room.answering -= 1
            room.drop_answers(answers)
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


def _person(room_id: str) -> str:
    """Return the id of a room's own person: each terminal's room has one."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{room_id}/person"))


@contextmanager
def _missing_model_as_lookup_error() -> Iterator[None]:
    """Raise the agent's ModelUnavailable as a LookupError with its original text."""
    try:
        yield
    except RemoteError as error:
        if error.type_name != "ModelUnavailable":
            raise
        raise LookupError(error.detail.partition(": ")[2]) from error


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


def _shortened(memory: Memory) -> Memory:
    """Return a message as it is kept in the conversation."""
    text = memory.content.text[:MAX_HISTORY_TEXT]
    content = msgspec.structs.replace(memory.content, text=text)
    return msgspec.structs.replace(memory, content=content, embedding=None, metadata={})


plugin = Plugin(name="chat", services=[ChatService], preload=["garrison.workers.services.chat"])
