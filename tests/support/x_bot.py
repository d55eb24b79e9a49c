"""A host with the bot of X, what is asked there, and kills. Durations are seconds."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator

from tests.support.host import Host, hosting
from tests.support.x_client import TOKENS, XServer

CHANNELS = ("tea", "rain")
KILL_S = 0.08  # after a mention, at most
CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
twitter = {{}}
[defaults]
intensity = 0
[services.twitter]
secrets = {secrets}
[services.twitter.config]
base_url = "{url}"
poll = 0.02
poll_idle = 0.02
settle = 0.3
max_length = 80
"""


@contextlib.contextmanager
def answering(x: XServer) -> Iterator[Host]:
    """Run the bot; it has answered once in each conversation."""
    text = CONFIG.format(secrets=list(TOKENS), url=x.url)
    with hosting("", ["parrot"], {"config.toml": text}, TOKENS, up=False) as host:
        host.up()
        for channel in CHANNELS:
            ask(x, channel, "short")
        x.until_answered()
        yield host


def ask(x: XServer, channel: str, kind: str) -> None:
    """Ask the next question."""
    x.say(channel, f"q{len(x.counts().questions) + 1} {kind}")


def kill(bot: Host, x: XServer, victim: str, drawn: random.Random) -> None:
    """Kill a victim in the middle of a conversation; wait for all answers."""
    if victim != "supervisor":
        bot.ask("reset", victim)
    pid = bot.pid if victim == "supervisor" else bot.status(victim)["pid"]
    for channel in drawn.choices(CHANNELS, k=3):
        ask(x, channel, drawn.choice(["short", "long"]))
    time.sleep(drawn.uniform(0, KILL_S))  # the moment is what is tried
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    if victim == "supervisor":
        bot.end()
        bot.up()
    else:
        bot.until_reborn(victim, pid)
    x.until_answered()
