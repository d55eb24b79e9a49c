"""The notification service: sends a text to one chat platform or to all configured ones."""

import asyncio
import logging
from typing import Annotated

import msgspec

from garrison.ipc import CallTimeout
from garrison.workers import Content, Media, Plugin, Service, TargetInfo

log = logging.getLogger(__name__)


class NotificationService(Service):
    """Sends notifications to chat platforms."""

    service_type = "notification"
    capability_description = "Sends notifications to chat platforms"

    class Config(msgspec.Struct):
        """`[services.notification.config]`."""

        targets: dict[str, str | list[str]] = {}  # platform NAME: its channel or channels
        timeout: Annotated[float, msgspec.Meta(gt=0)] = 10.0  # seconds, for each channel

    config: Config

    async def notify(
        self,
        text: str,
        platform: str | None = None,
        channel: str | None = None,
        attachments: list[Media] | None = None,
    ) -> list[str]:
        """Send a text to one platform, or to all platforms of the config, concurrently.

        Without `platform`, a platform that is down, fails or times out is logged and left out.

        Args:
            text: The text to send.
            platform: The NAME or type of a service; None is all of the config's `targets`.
            channel: A channel of that platform; None is the channels in `targets`.
            attachments: Files that go with the text, at http(s) or `data:` addresses.

        Returns:
            The platforms that accepted the text in all of their channels.

        Raises:
            ValueError: There is neither a text nor a file, or no channel to send it to.
            Exception: The error of `platform`, if it failed.
        """
        if not (text.strip() or attachments):
            raise ValueError("notify got an empty text")
        targets = self._targets(platform, channel)
        sending = (self._send(target, text, attachments or []) for target in targets)
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
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
                raise ValueError(f"notify got channel {channel!r} but no platform")
            return [TargetInfo(platform, channel_id=channel)]
        configured = self.config.targets
        if platform is not None:
            if platform not in configured:
                raise ValueError(f"notify has no channel of {platform!r}: {_advice(platform)}")
            configured = {platform: configured[platform]}
        targets = [
            TargetInfo(name, channel_id=channel_id)
            for name, channels in configured.items()
            for channel_id in dict.fromkeys([channels] if isinstance(channels, str) else channels)
        ]
        if not targets:
            raise ValueError(f"notify has no targets: {_advice(platform or 'discord')}")
        return targets

    async def _send(self, target: TargetInfo, text: str, attachments: list[Media]) -> None:
        seconds = self.config.timeout
        try:
            async with asyncio.timeout(seconds):
                content = Content(text, source=target.source, attachments=list(attachments))
                await self.runtime.send_message_to_target(target, content)
        except TimeoutError as error:
            raise CallTimeout(target.source, "send_message", f"{seconds:g}") from error

    async def stop(self) -> None:
        """Do nothing: no connection is held between calls."""


def _advice(platform: str) -> str:
    return (
        "give a platform and a channel, or set in config.toml, under "
        f'[services.notification.config], targets = {{ {platform} = "CHANNEL" }}'
    )


plugin = Plugin(
    name="notification",
    services=[NotificationService],
    preload=["garrison.workers.services.notification"],
)
