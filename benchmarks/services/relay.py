"""The service that hands a line on, as `chat`, the agent and a model do, and does nothing else."""

from garrison.workers import Plugin, Service


class Relay(Service):
    """Hands a line on."""

    service_type = "relay"

    async def say(self, text: str, agent: str, model: str) -> str:
        """Stand for `chat`: have the agent process a line."""
        there = self.runtime.get_service(agent)
        assert there is not None
        answer: str = await there.process(text, self.runtime.name, model)
        return answer

    async def process(self, text: str, source: str, model: str) -> str:
        """Stand for the agent: ask the model, and have the source send what it answers."""
        asked, heard = self.runtime.get_service(model), self.runtime.get_service(source)
        assert asked is not None
        assert heard is not None
        answer: str = await asked.generate(text)
        await heard.send_message("a room", answer)
        return answer

    async def generate(self, text: str) -> str:
        """Stand for the model."""
        return text

    async def send_message(self, channel: str, text: str) -> str:
        """Stand for a platform that sends."""
        return channel + text


plugin = Plugin(name="relay", services=[Relay])
