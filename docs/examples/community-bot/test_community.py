"""What the bot can do besides talking, without a host."""

from community import CommunityService, plugin

from garrison.workers.testing import run

RULES = {"rules": ["Be kind.", "No advertising."]}


class Notifier:
    """Takes announcements in place of the notification service."""

    service_type = "notification"

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def notify(self, text: str) -> list[str]:
        """Keep it."""
        self.sent.append(text)
        return ["discord", "telegram"]


async def test_the_rules_are_numbered() -> None:
    """In the order of the config."""
    async with run(CommunityService, config=RULES, plugin=plugin) as community:
        assert await community.rules() == "1. Be kind.\n2. No advertising."


async def test_an_announcement_reaches_all_places() -> None:
    """By the notification service."""
    notifier = Notifier()
    async with run(CommunityService, fakes={"notification": notifier}) as community:
        assert await community.announce("We meet at eight") == ["discord", "telegram"]
    assert notifier.sent == ["We meet at eight"]
