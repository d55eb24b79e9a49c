"""The bot of X, killed a hundred times in the middle of its answers."""

import random

import pytest
from tests.support.x_bot import answering, kill
from tests.support.x_client import x_server

pytestmark = pytest.mark.soak

KILLS = 100


def test_the_bot_is_killed_a_hundred_times() -> None:
    """Each mention has one answer, in its conversation's order; the shorter one is in CI."""
    drawn = random.Random(2)
    with x_server() as x, answering(x) as bot:
        for _ in range(KILLS):
            kill(bot, x, "twitter", drawn)
        assert x.faults() == {}
        assert len(x.counts().questions) > KILLS
