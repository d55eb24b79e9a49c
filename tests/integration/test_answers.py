"""The agent killed at each step of an answer, with a platform in a process of its own that keeps
count: each message has one answer, in order."""

import asyncio
import itertools
import os
import random
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.answer_counts import Counts
from tests.support.host import Host, found, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

CONFIG = """
[defaults]
intensity = 0

[plugins.mailbox]
[plugins.marker]
[services.marker]
env = {{ DEEDS = "{deeds}" }}
[plugins.fakechat]
use = "fakechat:complete"
[services.fakechat]
env = {{ FAKE = "{fake}" }}
[plugins.agent]
use = "garrison.workers.services.agent:plugin"
"""

NUMBERS = itertools.count(1)
SORRY = "Sorry, I cannot answer just now."


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run one host for them."""
    with hosting("", ["fakechat", "marker"], up=False) as host:
        host.write("config.toml", CONFIG.format(fake=fake.path, deeds=host.folder / "deeds"))
        host.up()
        fake.until_bots(1)
        yield host


def question(text: str) -> str:
    """Return a message that has a question of its own."""
    return f"q{next(NUMBERS)} {text}"


def deeds(host: Host) -> list[str]:
    """Return what was begun."""
    path = host.folder / "deeds"
    return path.read_text().splitlines() if path.exists() else []


def until_begun(host: Host, deed: str) -> None:
    """Wait until something was begun."""
    until(lambda: deed in deeds(host), what=f"{deed!r} was begun")


def let(host: Host, method: str) -> None:
    """Have what waits released, or wait again."""

    async def call() -> None:
        async with host.connect() as client:
            await getattr(found(client, "marker"), method)()

    asyncio.run(call())


@pytest.fixture
def gate(host: Host) -> Iterator[None]:
    """Hold what has `hold` until the test releases it."""
    let(host, "hold")
    yield
    let(host, "release")


def pause(seconds: float) -> None:
    """Let some of an answer happen."""
    due = time.monotonic() + seconds
    until(lambda: time.monotonic() >= due, what="it is time")


def kill(host: Host, *names: str) -> None:
    """Kill services and wait for their next incarnations, which come as after a first crash."""
    killed = [(name, host.kill(name)) for name in names or ("agent",)]
    for name, old in killed:
        host.until_reborn(name, old)
        host.ask("reset", name)


def answered(host: Host, fake: FakePlatform) -> Counts:
    """Wait until each question has its whole answer; a failure says what happened last."""
    try:
        return fake.until_answered()
    except pytest.fail.Exception as error:
        pytest.fail(f"{error}\n{history(host, fake)}")


def history(host: Host, fake: FakePlatform) -> str:
    """Return what happened last, for a failure: the chat's lines, and the host's events."""
    lines = [
        f"{one.at:.3f} {one.channel} {'bot' if one.bot else 'person'} {one.text} {one.reply_to}"
        for one in fake.read()[-40:]
    ]
    happened = [
        f"{one['time']} {one['event']} {one['service']} {one['data']}" for one in host.events()
    ]
    now = f"{time.monotonic():.3f} is {time.strftime('%H:%M:%S', time.gmtime())}"
    return "\n".join([now, *lines, *happened[-60:]])


@pytest.mark.usefixtures("gate")
def test_killed_while_it_decides(host: Host, fake: FakePlatform) -> None:
    """It decides again: nothing was said."""
    text = question("hold")
    fake.say("deciding", text)
    until_begun(host, f"model {text}")
    kill(host)
    let(host, "release")

    assert answered(host, fake).faults == {}
    assert deeds(host).count(f"model {text}") == 2


@pytest.mark.usefixtures("gate")
@pytest.mark.parametrize("action", ["once", "again"])
def test_killed_in_an_action(host: Host, fake: FakePlatform, action: str) -> None:
    """An action that may run twice does; of another one it is said that it was interrupted. No
    part is said twice, and no model improvises."""
    text = question(f"{action} hold")
    fake.say(action, text)
    until(lambda: bool(fake.answers(action)), what="the first part was said")
    kill(host)
    let(host, "release")
    until(lambda: len(fake.answers(action)) == 2, what="the second part was said")
    fake.say(action, question("hello"))
    answered(host, fake)

    word = text.partition(" ")[0]
    first, second, _ = fake.answers(action)
    assert first == f"[{word}.1/2]"
    if action == "again":
        assert second == f"[{word}.2/2]"
    else:
        assert second.startswith("I was interrupted during ONCE")
    assert deeds(host).count(f"{action} {text}") == (2 if action == "again" else 1)
    assert f"model {text}" not in deeds(host)


def test_killed_while_it_says(host: Host, fake: FakePlatform) -> None:
    """The platform said it meanwhile, and knows so."""
    fake.fault("send", "stall", seconds=0.6)
    text = question("hello")
    fake.say("saying", text)
    until(lambda: bool(fake.answers("saying")), what="it is said")
    kill(host)
    fake.say("saying", question("hello"))

    assert answered(host, fake).faults == {}
    assert deeds(host).count(f"model {text}") == 1


def test_a_message_without_an_answer_is_told_so(host: Host, fake: FakePlatform) -> None:
    """Once, and the room goes on."""
    fake.say("sorry", question("fail"))
    fake.say("sorry", question("hello"))
    answered(host, fake)

    assert fake.answers("sorry")[0] == SORRY
    assert fake.counts().faults == {}


@pytest.mark.usefixtures("gate")
def test_a_message_that_is_given_up_keeps_its_place(host: Host, fake: FakePlatform) -> None:
    """The agent was killed twice while it answered it. The platform says so before the next answer
    of the room, also if its notice comes late."""
    first, second = question("hold"), question("hello")
    fake.say("given up", first)
    fake.say("given up", second)
    until_begun(host, f"model {first}")
    kill(host)
    until(lambda: deeds(host).count(f"model {first}") == 2, what="it is answered again")
    given_up = len(host.events("mail.dead"))
    platform = host.kill("fakechat", signal.SIGSTOP)
    try:
        kill(host)
        until(lambda: len(host.events("mail.dead")) > given_up, what="it is given up")
    finally:
        os.kill(platform, signal.SIGCONT)
    answered(host, fake)

    assert fake.answers("given up") == [SORRY, f"[{second.partition(' ')[0]}.1/1]"]


def test_a_damaged_record(host: Host, fake: FakePlatform) -> None:
    """It is set aside; what may have been said is not said again."""
    fake.fault("send", "stall", seconds=1.0)
    fake.say("damaged", question("hello"))
    until(lambda: bool(fake.answers("damaged")), what="it is said")
    (path,) = host.folder.glob("h/**/answers.db")
    for file in (path, path.with_name("answers.db-wal")):
        file.write_bytes(b"x" * file.stat().st_size)
    kill(host)
    fake.say("damaged", question("hello"))

    assert answered(host, fake).faults == {}
    assert list(path.parent.glob("answers.db.damaged-*"))


@pytest.mark.parametrize("victims", [["agent"], ["marker"], ["agent", "fakechat"]])
def test_killed_at_any_time(host: Host, fake: FakePlatform, victims: list[str]) -> None:
    """Within 50 ms of a burst in two rooms."""
    drawn = random.Random(str(victims))
    for _ in range(5):
        for room in ("left", "right", "left"):
            fake.say(room, question("hello"))
        pause(drawn.uniform(0, 0.05))
        kill(host, *victims)

    assert answered(host, fake).faults == {}, history(host, fake)
