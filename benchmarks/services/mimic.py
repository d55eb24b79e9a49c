"""A model that takes no time: it returns the last message."""

from garrison.workers import GenerateTextParams, ModelProvider, Plugin


class MimicService(ModelProvider):
    """Returns what it is sent."""

    service_type = "mimic"

    async def generate_text(self, params: GenerateTextParams) -> str:
        """Return the last message."""
        return str(params.as_messages()[-1]["content"])


plugin = Plugin("mimic", services=[MimicService])
