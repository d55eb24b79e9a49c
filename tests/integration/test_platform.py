"""A platform in a host of its own: each message has one answer, whichever process is killed."""

import asyncio
import itertools
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until_true

from garrison.workers.platform.platform import HOOKS

CONFIG = """
[defaults]
intensity = 0

[plugins.mailbox]
[plugins.fakechat]
use = "fakechat:complete"
[services.fakechat]
plugin = "fakechat"
env = {{ FAKE = "{fake}" }}
[services.fakechat.config]
channels = ["first", "left", "right"]
[plugins.plain]
use = "fakechat:no_lookup"
[services.plain]
plugin = "plain"
type = "fakechat"
env = {{ FAKE = "{fake}" }}
[services.plain.config]
channels = ["plain"]
uncertain = "repeat"  # the platform drops what has the same nonce
[plugins.agent]
use = "fakechat:answerer"
"""

ROUNDS = 2  # for each victim
WORDS = (f"q{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for them."""
    with hosting(CONFIG.format(fake=fake.path), ["fakechat"]) as running:
        fake.until_bots(2)
        yield running


def test_a_message_gets_one_answer(host: Host, fake: FakePlatform) -> None:
    """It is heard, posted, answered and sent; the answer replies to it."""
    heard = fake.say("first", f"{next(WORDS)} hello")
    fake.until_answered()

    (answer,) = [one for one in fake.read() if one.bot and one.channel == "first"]
    assert answer.reply_to == heard


@pytest.mark.parametrize(
    "victims",
    [
        "fakechat",
        "plain",
        "agent",
        "mailbox",
        "supervisor",
        "fakechat agent",
        "plain mailbox",
        "agent supervisor",
    ],
)
def test_each_message_has_one_answer_whoever_dies(
    host: Host, fake: FakePlatform, victims: str
) -> None:
    """A kill at any time after a message costs no answer, doubles none, and changes no order."""
    drawn = random.Random(victims)
    for _ in range(ROUNDS):
        for room in ("left", "right", "left", "plain", "plain"):
            fake.say(room, f"{next(WORDS)} hello")
        time.sleep(drawn.uniform(0, 0.05))  # the moment of the kill is drawn
        services = [name for name in victims.split() if name != "supervisor"]
        old = {name: host.kill(name) for name in services}
        if "supervisor" in victims:
            host.end(signal.SIGKILL)
            host.up()
        for name, pid in old.items():
            host.until_reborn(name, pid)
    counts = fake.until_answered()
    assert counts.faults == {}


async def test_a_call_that_is_sent_again_is_the_same_message(
    host: Host, fake: FakePlatform
) -> None:
    """Also where its caller gives no id: the platform is killed while it sends."""
    channel = "again"
    fake.set(dedupe=False)
    fake.fault("send", "stall", seconds=1.0)
    async with host.connect() as client:
        sending = asyncio.ensure_future(found(client, "fakechat").send_message(channel, "once"))
        await until_true(lambda: fake.answers(channel))
        host.kill("fakechat")
        sent = await sending

    assert (sent["outcome"], len(sent["ids"])) == ("sent", 1)
    assert fake.answers(channel) == ["once"]


def test_the_author_s_methods_cannot_be_called(host: Host) -> None:
    """A call past the send log would make an answer two."""
    for method in sorted(HOOKS):
        ran = host.run("call", "fakechat", method)
        assert ran.code != 0
        assert "no such method" in ran.err
