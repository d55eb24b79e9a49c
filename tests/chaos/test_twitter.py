"""The bot of X answers each mention once, whichever process is killed, and whatever the wire does.

The other side is a server that is held to X's schema: `tests/support/x_server.py`. More kills are
in `tests/soak/test_twitter.py`.
"""

import random
from collections.abc import Iterator

import pytest
from tests.support.host import Host
from tests.support.waiting import until
from tests.support.x_bot import CHANNELS, answering, ask, kill
from tests.support.x_client import XServer, x_server

pytestmark = pytest.mark.external

OTHERS = ("agent", "mailbox", "supervisor")
KILLS, KILLS_OTHERS = 10, 2


@pytest.fixture(scope="module")
def x() -> Iterator[XServer]:
    """Run X."""
    with x_server() as there:
        yield there


@pytest.fixture(scope="module")
def bot(x: XServer) -> Iterator[Host]:
    """Run the bot."""
    with answering(x) as host:
        yield host


def test_the_bot_is_killed_while_it_answers(bot: Host, x: XServer) -> None:
    """Each mention has one answer, in its conversation's order, also one that is a thread."""
    drawn = random.Random(1)
    for _ in range(KILLS):
        kill(bot, x, "twitter", drawn)
    assert x.faults() == {}


@pytest.mark.parametrize("victim", OTHERS)
def test_another_process_is_killed(bot: Host, x: XServer, victim: str) -> None:
    """Likewise."""
    drawn = random.Random(victim)
    for _ in range(KILLS_OTHERS):
        kill(bot, x, victim, drawn)
    assert x.faults() == {}


@pytest.mark.parametrize("kind", ["after", "half", "500", "503", "before"])
def test_a_post_whose_outcome_is_not_known(bot: Host, x: XServer, kind: str) -> None:
    """The bot finds out by its own timeline whether the post is there; none is made twice."""
    lookups = x.requests("GET users/*/tweets")
    x.fault("POST tweets", kind)
    ask(x, "tea", "long")
    assert x.until_answered().faults == {}
    assert x.faults() == {}
    assert x.requests("GET users/*/tweets") > lookups


def test_a_post_that_its_own_timeline_shows_late(bot: Host, x: XServer) -> None:
    """The bot posts it again, X refuses a second one, and that settles it."""
    x.set(lag=2.0, refuse_duplicates=True)
    x.fault("POST tweets", "after")
    ask(x, "tea", "long")
    assert x.until_answered().faults == {}
    x.set(lag=0.0, refuse_duplicates=False)
    assert x.faults() == {}


@pytest.mark.parametrize("kind", ["half", "503", "429"])
def test_mentions_that_cannot_be_read(bot: Host, x: XServer, kind: str) -> None:
    """They are read again, none is passed over, and none is answered twice."""
    x.fault("GET users/*/mentions", kind, seconds=1.0)
    ask(x, "rain", "short")
    ask(x, "tea", "long")
    assert x.until_answered().faults == {}
    assert x.faults() == {}


def test_a_limit_of_posts_is_waited_for(bot: Host, x: XServer) -> None:
    """Nothing is posted until X renews it, and nothing is lost."""
    before = x.requests("POST tweets")
    x.limit("POST tweets", remaining=0, seconds=1.0)
    ask(x, "rain", "long")
    assert x.until_answered().faults == {}
    assert x.requests("POST tweets") - before <= 5  # one that was refused, and three parts


def test_what_was_said_while_the_bot_was_stopped(bot: Host, x: XServer) -> None:
    """It is read from the last position on, and answered in order."""
    bot.ask("stop", "twitter")
    for channel in (*CHANNELS, *CHANNELS):
        ask(x, channel, "short")
    bot.ask("start", "twitter")
    assert x.until_answered().faults == {}
    until(lambda: x.faults() == {})
