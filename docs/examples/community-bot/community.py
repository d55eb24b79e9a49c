"""What this community's bot can do besides talking: its rules, and announcements."""

import msgspec

from garrison.workers import Action, Memory, Plugin, Provider, Runtime, Service, idempotent


class CommunityService(Service):
    """Keeps the rules; announces to all places."""

    service_type = "community"
    capability_description = "The community's rules and announcements"

    class Config(msgspec.Struct):
        """The keys of [services.community.config]."""

        rules: list[str] = []

    config: Config

    @idempotent
    async def rules(self) -> str:
        """Return the rules as a text: garrison call community rules"""
        return "\n".join(f"{number}. {rule}" for number, rule in enumerate(self.config.rules, 1))

    async def announce(self, text: str) -> list[str]:
        """Send a text to every target of the notification service; return where it arrived."""
        notification = self.runtime.get_service("notification")
        if notification is None:
            raise LookupError("there is no notification service: name it under [plugins]")
        sent: list[str] = await notification.notify(text)
        return sent


async def rules(runtime: Runtime) -> str:
    """Return the rules, for the action and for the model."""
    community = runtime.get_service(CommunityService)
    return await community.rules() if community else ""


async def asks_for_rules(runtime: Runtime, memory: Memory) -> bool:
    """Return whether a message asks for the rules; as a command it is accepted too."""
    return "rules" in memory.content.text.lower() or bool(memory.metadata.get("command"))


plugin = Plugin(
    name="community",
    services=[CommunityService],
    actions=[Action("RULES", "Shows the rules", validate=asks_for_rules, handler=rules)],
    providers=[Provider("HOUSE_RULES", "The rules of this community", get=rules)],
)
