"""A model that repeats its last prompt, when it is released."""

import asyncio

from garrison.workers import GenerateTextParams, ModelProvider, Plugin, idempotent


class OracleService(ModelProvider):
    """Its first incarnation hangs at a text with `hang`; later ones do not."""

    service_type = "oracle"

    def __init__(self, runtime: object = None) -> None:
        super().__init__(runtime)  # type: ignore[arg-type]
        self.texts: list[str] = []
        self.gate = asyncio.Event()

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the last message."""
        text = params.as_messages()[-1]["content"]
        self.texts.append(text)
        if "hang" in text and self.runtime.generation == 1:
            await self.gate.wait()
        return (params.system or "") if text == "who" else f"You wrote: {text}"

    @idempotent
    async def requests(self) -> list[str]:
        """Return the prompts that this incarnation received."""
        return self.texts

    @idempotent
    async def release(self) -> None:
        """Let it answer."""
        self.gate.set()


plugin = Plugin("oracle", services=[OracleService])
