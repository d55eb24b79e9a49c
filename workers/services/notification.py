"""The notification service: one text to a chat platform, or to every one that is configured."""

import asyncio
import logging
from typing import Annotated

import msgspec

from garrison.ipc import CallTimeout
from garrison.workers import Content, Plugin, Service, TargetInfo

log = logging.getLogger(__name__)


class NotificationService(Service):
    """Sends texts to people, wherever they are."""

    service_type = "notification"
    capability_description = "Cross-platform notifications"

    class Config(msgspec.Struct):
        """What `[services.notification.config]` may say."""

        targets: dict[str, str | list[str]] = {}  # a platform's NAME to its channel, or channels
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0  # seconds for each channel

    config: Config

    async def notify(
        self, text: str, platform: str | None = None, channel: str | None = None
    ) -> list[str]:
        """Send a text to one platform, or to all that the config names; return who took it.

        All are told side by side. Where no platform is named, one that is down, fails or is late
        is left out and logged, and is of no matter to the others.

        Args:
            text: What to send, as it is.
            platform: The NAME or type of a service; None is every one of the config's `targets`.
            channel: One of that platform's; None is those that `targets` has for it.

        Returns:
            The platforms that took it, each in all of its channels.

        Raises:
            ValueError: There is nothing to send, or nobody to send it to.
            Exception: What kept the platform that was named from taking it.
        """
        if not text.strip():
            raise ValueError("notify was given an empty text")
        targets = self._targets(platform, channel)
        sent = [self._send(target, text) for target in targets]
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        failed: dict[str, BaseException] = {}
        for target, outcome in zip(targets, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                failed.setdefault(target.source, outcome)
                log.warning(
                    "notify.not_taken platform=%s channel=%s error=%s: %s",
                    *(target.source, target.channel, type(outcome).__name__, outcome),
                )
        if platform is not None and failed:
            raise failed[platform]
        return [name for name in dict.fromkeys(t.source for t in targets) if name not in failed]

    def _targets(self, platform: str | None, channel: str | None) -> list[TargetInfo]:
        if channel is not None:
            if not platform:
                raise ValueError(f"notify was given channel {channel!r} and no platform it is of")
            return [TargetInfo(platform, channel_id=channel)]
        wanted = self.config.targets
        if platform is not None:
            if platform not in wanted:
                raise ValueError(f"notify has no channel of {platform!r}: {_mend(platform)}")
            wanted = {platform: wanted[platform]}
        targets = [
            TargetInfo(name, channel_id=one)
            for name, channels in wanted.items()
            for one in dict.fromkeys([channels] if isinstance(channels, str) else channels)
        ]
        if not targets:
            raise ValueError(f"notify has nobody to tell: {_mend(platform or 'discord')}")
        return targets

    async def _send(self, target: TargetInfo, text: str) -> None:
        seconds = self.config.timeout
        try:
            async with asyncio.timeout(seconds):
                content = Content(text=text, source=target.source)
                await self.runtime.send_message_to_target(target, content)
        except TimeoutError as error:
            raise CallTimeout(target.source, "send_message", f"{seconds:g}") from error

    async def stop(self) -> None:
        """End at once: nothing is held open between calls."""


def _mend(platform: str) -> str:
    return (
        "name a platform and a channel, or in config.toml, under [services.notification.config], "
        f'say targets = {{ {platform} = "CHANNEL" }}'
    )


plugin = Plugin(name="notification", services=[NotificationService])
