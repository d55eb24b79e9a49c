"""What Discord sends while the bot runs: messages to be answered, events, interactions."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from garrison.workers import Heard, Runtime

from .config import Config
from .incoming import heard, is_served
from .interactions import Interactions

if TYPE_CHECKING:
    import discord

Receive = Callable[..., Awaitable[None]]  # memory, stream, position


class Events:
    """The library's handlers.

    Args:
        client: The library's.
        runtime: The service's.
        config: Its config.
        interactions: Takes commands and presses of buttons.
        receive: Hands a message over.
        note_event: Called for every event.
    """

    def __init__(
        self,
        client: "discord.Client",
        runtime: Runtime,
        config: Config,
        interactions: Interactions,
        receive: Receive,
        note_event: Callable[[], None],
    ) -> None:
        self._client, self._runtime, self._config = client, runtime, config
        self._interactions, self._receive_memory = interactions, receive
        self._note_event = note_event

    def listen(self) -> None:
        """Register the handlers; the library calls each by its name."""
        for handler in (
            self.on_socket_event_type,
            self.on_message,
            self.on_raw_message_edit,
            self.on_raw_message_delete,
            self.on_raw_reaction_add,
            self.on_raw_reaction_remove,
            self.on_interaction,
        ):
            setattr(self._client, handler.__name__, handler)

    async def on_socket_event_type(self, _: str) -> None:
        """Note that the gateway is alive."""
        self._note_event()

    async def on_message(self, message: "discord.Message") -> None:
        """Take a message; not one that Discord itself wrote, such as that a member has joined."""
        if not message.is_system():
            await self._receive(heard(message, self._user, self._config), message.guild)

    async def on_raw_message_edit(self, payload: "discord.RawMessageUpdateEvent") -> None:
        """Emit that a message has another text; a preview that was added, or a pin, is none."""
        message = payload.message
        if message.edited_at is not None:
            found = heard(message, self._user, self._config)
            found.memory.metadata["edited"] = True
            await self._receive(Heard(found.memory), message.guild)

    async def on_raw_message_delete(self, payload: "discord.RawMessageDeleteEvent") -> None:
        """Emit that a message was deleted."""
        about = {"room_id": str(payload.channel_id), "id": str(payload.message_id)}
        await self._emit("MESSAGE_DELETED", about)

    async def on_raw_reaction_add(self, payload: "discord.RawReactionActionEvent") -> None:
        """Emit a reaction of someone else."""
        await self._reacted("REACTION_RECEIVED", payload)

    async def on_raw_reaction_remove(self, payload: "discord.RawReactionActionEvent") -> None:
        """Emit that someone else took a reaction back."""
        await self._reacted("REACTION_REMOVED", payload)

    async def on_interaction(self, interaction: "discord.Interaction") -> None:
        """Take a command, or a press of a button."""
        await self._interactions.handle(interaction)

    @property
    def _user(self) -> "discord.ClientUser":
        user = self._client.user
        assert user is not None  # there are no messages before the login
        return user

    async def _receive(self, found: Heard, guild: "discord.Guild | None") -> None:
        if is_served(guild, self._config):
            await self._receive_memory(found.memory, found.stream, found.position)

    async def _reacted(self, event: str, payload: "discord.RawReactionActionEvent") -> None:
        if payload.user_id == self._user.id:
            return
        about = {
            "room_id": str(payload.channel_id),
            "id": str(payload.message_id),
            "entity_id": str(payload.user_id),
            "emoji": str(payload.emoji),
        }
        await self._emit(event, about)

    async def _emit(self, event: str, about: dict[str, Any]) -> None:
        await self._runtime.emit_event(event, {"source": self._runtime.name} | about)
