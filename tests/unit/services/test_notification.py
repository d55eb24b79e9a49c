"""notification: each target receives the text; a failing one does not affect the others."""

import asyncio
import logging
from typing import Any

import pytest

from garrison.ipc import CallTimeout, RemoteError, ServiceUnavailable
from garrison.workers.services.notification import NotificationService
from garrison.workers.testing import run


class Platform:
    """Records the texts that it is sent."""

    def __init__(self, bad: str = "") -> None:
        self.sent: list[tuple[str, str]] = []
        self.received = asyncio.Event()
        self._bad = bad  # a channel that it rejects

    async def send_message(self, channel_id: str, text: str) -> str:
        if channel_id == self._bad:
            raise LookupError(f"no channel {channel_id}")
        self.sent.append((channel_id, text))
        self.received.set()
        return "1"


class Hanging:
    """Never answers."""

    def __init__(self) -> None:
        self.called = asyncio.Event()

    async def send_message(self, channel_id: str, text: str) -> None:
        self.called.set()
        await asyncio.Event().wait()


class Mute:
    """Has no send_message."""

    async def look(self) -> None: ...


def notifying(fakes: dict[str, Any], **config: Any) -> Any:
    return run(NotificationService, fakes=fakes, config=config)


async def test_every_configured_target_receives_the_text() -> None:
    """Each channel of a platform once, even if it is configured twice."""
    discord, telegram, other = Platform(), Platform(), Platform()
    fakes = {"discord": discord, "telegram": telegram, "other": other}
    targets = {"discord": "1", "telegram": ["2", "3", "2"]}
    async with notifying(fakes, targets=targets) as service:
        assert await service.notify("fire") == ["discord", "telegram"]
    assert discord.sent == [("1", "fire")]
    assert sorted(telegram.sent) == [("2", "fire"), ("3", "fire")]
    assert other.sent == []


async def test_a_target_that_fails_is_left_out_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the reason: an error, a timeout, not configured, no `send_message`, or an error in
    one of its channels. The others receive the text without delay."""
    well, half, hanging = Platform(), Platform(bad="4"), Hanging()
    fakes = {"well": well, "half": half, "hanging": hanging, "mute": Mute()}
    targets = {"half": ["3", "4"], "hanging": "1", "absent": "1", "mute": "1", "well": "1"}
    with caplog.at_level(logging.WARNING):
        async with notifying(fakes, targets=targets, timeout=0.2) as service:
            sending = asyncio.ensure_future(service.notify("fire"))
            await hanging.called.wait()
            await well.received.wait()
            assert not sending.done()
            assert await sending == ["well"]
    assert half.sent == [("3", "fire")]
    for name, reason in {
        "half": "no channel 4",
        "hanging": "no answer within 0.2 s",
        "absent": "not configured",
        "mute": "without a method send_message",
    }.items():
        assert any(
            f"platform={name} " in line.getMessage() and reason in line.getMessage()
            for line in caplog.records
        ), name


@pytest.mark.parametrize(
    ("platform", "channel", "sent"),
    [("discord", "9", [("9", "fire")]), ("discord", None, [("1", "fire")])],
)
async def test_a_named_platform_alone_receives_the_text(
    platform: str, channel: str | None, sent: list[tuple[str, str]]
) -> None:
    """In the named channel, or else in its configured channels."""
    discord, telegram = Platform(), Platform()
    targets = {"discord": "1", "telegram": "2"}
    fakes = {"discord": discord, "telegram": telegram}
    async with notifying(fakes, targets=targets) as service:
        assert await service.notify("fire", platform, channel) == [platform]
    assert (discord.sent, telegram.sent) == (sent, [])


async def test_a_platform_can_be_named_by_its_type() -> None:
    class Typed(Platform):
        service_type = "discord"

    first = Typed()
    async with notifying({"discord-eu": first}) as service:
        assert await service.notify("fire", "discord", "1") == ["discord"]
    assert first.sent == [("1", "fire")]


@pytest.mark.parametrize(
    ("platform", "channel", "error"),
    [
        ("bad", "4", RemoteError),
        ("bad", None, RemoteError),
        ("hanging", "1", CallTimeout),
        ("absent", "1", ServiceUnavailable),
        ("mute", "1", ServiceUnavailable),
    ],
)
async def test_a_named_platform_that_fails_is_the_callers_error(
    platform: str, channel: str | None, error: type[Exception]
) -> None:
    """It is raised, not logged only."""
    fakes = {"bad": Platform(bad="4"), "hanging": Hanging(), "mute": Mute()}
    async with notifying(fakes, targets={"bad": ["3", "4"]}, timeout=0.2) as service:
        with pytest.raises(error):
            await service.notify("fire", platform, channel)


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("",), "empty text"),
        ((" \n",), "empty text"),
        (("fire",), 'targets = { discord = "CHANNEL" }'),
        (("fire", "telegram"), 'targets = { telegram = "CHANNEL" }'),
        (("fire", None, "1"), "no platform"),
        (("fire", "", "1"), "no platform"),
        (("fire", "silent"), 'targets = { silent = "CHANNEL" }'),
    ],
)
async def test_an_empty_text_or_a_missing_target_is_an_error(args: Any, part: str) -> None:
    """Its text names the key to set."""
    async with notifying({"silent": Platform()}, targets={"silent": []}) as service:
        with pytest.raises(ValueError, match=part):
            await service.notify(*args)
