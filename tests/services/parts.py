"""Plugins with actions, models and the like, and a service that uses them from another process."""

import asyncio
import ctypes
import os
from collections.abc import AsyncIterator
from typing import Any

from garrison.ipc import CallError
from garrison.workers import (
    Action,
    ActionResult,
    Content,
    EmbedParams,
    Evaluator,
    EventType,
    GenerateTextParams,
    Memory,
    ModelProvider,
    ModelUnavailable,
    Plugin,
    Provider,
    ProviderResult,
    Runtime,
    Service,
    State,
    as_memory,
)

SEEN: list[str] = []  # in the worker that has the parts


class Shout(Action):
    """Repeats a message in capitals, in two pieces."""

    name = "SHOUT"
    description = "Shouts"
    similes = ("YELL",)
    priority = 3

    async def validate(self, runtime: Runtime, memory: Memory) -> bool:
        return "loud" in memory.content.text

    async def handler(
        self, runtime: Runtime, memory: Memory, state: State, responses: list[Memory]
    ) -> AsyncIterator[Any]:
        yield memory.content.text.upper()
        yield Content(f"in {runtime.name}, after {len(responses)}, knowing {state.text}")
        yield ActionResult(values={"loud": True})


async def segfault(runtime: Runtime) -> None:
    """Die as native code dies."""
    ctypes.string_at(0)


def refuse() -> bool:
    """Apply to nothing, and not asynchronously."""
    raise ValueError("no such thing")


async def picture(runtime: Runtime, params: dict[str, Any]) -> dict[str, Any]:
    """Stand for a model of another type."""
    return {"url": f"{runtime.name}/{params['prompt']}"}


async def on_message(memory: Memory) -> None:
    """Record a message; the annotation converts the payload to a Memory."""
    SEEN.append(memory.content.text)


class Tardy(Provider):
    """Never returns in time."""

    name = "TARDY"
    dynamic = True

    async def get(self, runtime: Runtime, memory: Memory, state: State) -> str:
        await asyncio.sleep(60)
        return "too late"


without_service = Plugin(
    name="a name of its own",
    actions=[
        Shout(),
        Action("SEGFAULT", handler=segfault),
        Action("REFUSE", validate=refuse, handler=lambda: False),
    ],
    providers=[
        Provider("SECOND", get=lambda: ProviderResult("the second", {"n": 2}), position=2),
        Provider("FIRST", get=lambda runtime, memory: f"about {memory.content.text}", position=1),
        Provider("NAMED", get=lambda: "only where it is named", dynamic=True),
        Tardy(),
    ],
    evaluators=[Evaluator("NOTE", handler=lambda runtime, memory: SEEN.append("evaluated"))],
    models={"IMAGE": picture, "SEEN": lambda: SEEN},
    events={EventType.MESSAGE_RECEIVED: on_message, "SEEN": [lambda: None]},
)


class Words(ModelProvider):
    """Says the prompt again, word by word."""

    service_type = "words"
    priority = 5

    async def stream_text(self, params: GenerateTextParams) -> AsyncIterator[str]:
        for word in params.as_messages()[-1]["content"].split():
            if word == "die":
                os.kill(os.getpid(), 9)
            if word == "wait":
                await asyncio.Event().wait()
            yield f"{word} "

    async def pid(self) -> int:
        """Return the worker's pid."""
        return os.getpid()


class Plain(ModelProvider):
    """The next one, where the first is gone."""

    service_type = "plain"

    async def generate_text(self, params: GenerateTextParams) -> str:
        return f"plain: {params.prompt}"

    async def embed(self, params: EmbedParams) -> list[float]:
        return [float(len(params.text))]


with_services = Plugin(
    name="models", services=[Words, Plain], actions=[Action("NOTHING", handler=lambda: None)]
)


class Asker(Service):
    """Uses components of other plugins, and returns the results."""

    service_type = "asker"

    @classmethod
    async def register_send_handlers(cls, runtime: Runtime, service: Any) -> None:
        async def send(runtime: Runtime, target: Any, content: Content) -> str:
            return f"{runtime.name} sent {content.text} to {target.channel}"

        runtime.register_send_handler("pigeon", send)

    async def known(self) -> dict[str, list[tuple[str, str]]]:
        """Return the components, and the services that run them."""
        runtime = self.runtime
        return {
            "actions": [(one.name, one.service) for one in runtime.actions],
            "providers": [(one.name, one.service) for one in runtime.providers],
            "evaluators": [(one.name, one.service) for one in runtime.evaluators],
        }

    async def applies(self, action: str, text: str) -> bool:
        """Ask an action whether it applies."""
        return bool(await self._action(action).validate(self.runtime, as_memory(text)))

    async def act(self, action: str, text: str) -> list[Any]:
        """Run an action; return what it made."""
        state, memory = State(text="nothing"), as_memory(text)
        made = self._action(action).handler(self.runtime, memory, state, [memory])
        return [one async for one in made]

    def _action(self, name: str) -> Any:
        return next(one for one in self.runtime.actions if one.name == name)

    async def evaluate(self, text: str) -> bool:
        """Run the evaluator; return whether its condition held."""
        (evaluator,) = self.runtime.evaluators
        wanted = await evaluator.validate(self.runtime, as_memory(text), State())
        await evaluator.handler(self.runtime, as_memory(text), State(), [])
        return wanted

    async def compose(self, text: str, include: list[str], only: bool = False) -> State:
        """Return the state."""
        return await self.runtime.compose_state(as_memory(text), include, only, timeout=1.0)

    async def model(self, model_type: str, params: Any, provider: str | None = None) -> Any:
        """Ask a model."""
        try:
            return await self.runtime.use_model(model_type, params, provider)
        except ModelUnavailable as error:
            return str(error)

    async def pieces(self, model_type: str, params: Any) -> list[str]:
        """Ask a model that streams; return its pieces, and how it broke off."""
        got: list[str] = []
        self.got = got
        try:
            async for piece in self.runtime.use_model_stream(model_type, params):
                got.append(piece)
        except CallError as error:
            got.append(type(error).__name__)
        return got

    async def so_far(self) -> list[str]:
        """Return the pieces that have come."""
        return list(self.got)

    async def send(self, source: str, text: str) -> Any:
        """Send to a channel."""
        return await self.runtime.send_message_to_target({"source": source, "room_id": "7"}, text)

    async def send_message(self, channel_id: str, text: str) -> str:
        """Be a platform."""
        return f"{channel_id}: {text}"

    async def register(self, name: str) -> None:
        """Register an action late."""
        self.runtime.register_action(Action(name, handler=lambda: "late"))

    async def unregister(self, name: str) -> bool:
        """Offer an action no longer."""
        return self.runtime.unregister_action(name)

    async def emit(self, text: str) -> None:
        """Emit a received message."""
        await self.runtime.emit_event(EventType.MESSAGE_RECEIVED, as_memory(text))


asking = Plugin(name="asking", services=[Asker])
