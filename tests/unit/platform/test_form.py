"""The form of an author's platform, and what of it others can call."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.support.platforms import Asked, Scripted

from garrison.workers import Heard, Outgoing, Platform, Sent, Service, TargetInfo
from garrison.workers.agents.content import Content
from garrison.workers.platform.form import check_form
from garrison.workers.platform.platform import HOOKS
from garrison.workers.process.methods import describe
from garrison.workers.testing import run


class Bare(Platform):
    """Has nothing."""

    service_type = "bare"


class OwnConfig(Scripted):
    """Its `Config` is no platform's."""

    class Config(msgspec.Struct):  # pyright: ignore[reportIncompatibleVariableOverride]
        """Its own."""


class PlainDeliver(Scripted):
    """Its `deliver` cannot be awaited."""

    def deliver(self, m: Outgoing) -> str:  # type: ignore[override]
        """Send."""
        return ""


class OwnSend(Scripted):
    """It goes past the send log."""

    async def send_message(
        self, channel: str, content: Any, id: str = "", expect: bool = False
    ) -> Sent:
        """Send."""
        return Sent("sent", [])


class ListCatchUp(Scripted):
    """It does not yield."""

    async def catch_up(self, since: dict[str, str]) -> list[Heard]:  # type: ignore[override]
        """Return."""
        return []


class Maybe(Scripted):
    """Neither."""

    uncertain = "maybe"  # type: ignore[assignment]


class Negative(Scripted):
    """No time."""

    settle = -1.0


class Tiny(Scripted):
    """No room."""

    max_length = 0


class Whole(Asked):
    """Overrides all that it may, and has a method of its own."""

    credential = "TOKEN"

    async def receive(self, memory: Any, stream: str = "", position: str = "") -> None:
        """Count, for example."""
        await super().receive(memory, stream, position)

    async def catch_up(self, since: dict[str, str]) -> AsyncIterator[Heard]:
        """Yield nothing."""
        for heard in list[Heard]():
            yield heard

    async def typing(self, channel: str) -> None:
        """Show it."""

    async def members(self, channel: str) -> list[str]:
        """Return who is there."""
        return [channel]


@pytest.mark.parametrize(
    ("cls", "what"),
    [
        (Bare, "has no deliver"),
        (OwnConfig, "Config is not a subclass of Platform.Config"),
        (PlainDeliver, "deliver is not `async def`"),
        (OwnSend, "write what sends one message as deliver"),
        (ListCatchUp, "catch_up is not an asynchronous generator"),
        (Maybe, "write 'skip' or 'repeat'"),
        (Negative, "settle is seconds"),
        (Tiny, "max_length is a number from 1"),
    ],
)
def test_a_wrong_form_is_refused(cls: type[Platform], what: str) -> None:
    """Its author reads what to write."""
    with pytest.raises(TypeError, match=what):
        check_form(cls)


def test_a_whole_platform_is_taken() -> None:
    """Each optional method may be there or not."""
    check_form(Whole)
    check_form(Scripted)


def test_the_author_s_hooks_are_in_no_manifest() -> None:
    """Also where they are overridden: a call past the send log would make an answer two."""
    manifest, methods = describe(Whole)

    of_persons = {"forget_person", "export_person", "forget_sends", "export_sends"}
    assert set(methods) == {"send_message", "send_direct", "check_link", "members", *of_persons}
    assert not HOOKS & {*manifest.left_out, *manifest.attributes}
    assert (manifest.platform, manifest.credential) == (True, "TOKEN")
    assert next(one for one in manifest.methods if one.name == "send_message").idempotent


def test_other_services_may_use_the_names() -> None:
    """A method `typing` of a plain service is one of its methods."""

    class Typist(Service):
        service_type = "typist"

        async def typing(self, channel: str) -> None:
            """Type."""

    manifest, methods = describe(Typist)

    assert set(methods) == {"typing"}
    assert not manifest.platform


async def test_a_platform_gets_the_whole_content_and_the_id() -> None:
    """Without an id one is made by the caller, so that a call that is sent again is one message."""

    class Asking(Service):
        service_type = "asking"

    class Other:
        service_type = "other"

        def __init__(self) -> None:
            self.got: list[Any] = []

        async def send_message(self, channel: str, text: str) -> None:
            self.got.append((channel, text))

    other = Other()
    async with run(Asking, fakes={"other": other}) as asking:
        target = TargetInfo("other", channel_id="c")
        await asking.runtime.send_message_to_target(target, "hi", id="a", expect=True)

    assert other.got == [("c", "hi")]
    async with run(Scripted) as radio:
        content = Content("hi", in_reply_to="radio/c/7")
        target = TargetInfo("radio", channel_id="c")
        await radio.runtime.send_message_to_target(target, content, id="a")
        sent = await radio.runtime.send_message_to_target(target, content, id="a")
        await radio.runtime.send_message_to_target(target, "more")

        assert sent == {"outcome": "sent", "ids": ["r1"]}
        assert [(m.id, m.reply_to) for m in radio.tried[:1]] == [("a/0", "7")]
        assert len(radio.tried) == 2
