"""A host that answers on the fake platform while its processes are killed, and what came of it.

Durations are seconds.
"""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.answer_counts import Counts
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform, fake_platform
from tests.support.proc import alive
from tests.support.waiting import until

SUPERVISOR = "supervisor"
SERVICES = {  # victim → NAME of the service
    "platform": "fakeplatform",
    "agent": "agent",
    "model": "parrot",
    "actions": "deeds",
    "mailbox": "mailbox",
    "database": "database",
}
ROOMS = ("hall", "attic")
KINDS = ("short", "short", "long", "deed", "safe")
BURST = 3  # messages of a room, at most
KILL_S = 0.05  # after a message, at most
LATENCY_S = 0.002  # of the platform, each way
INTERRUPTED = "I was interrupted"  # what the agent says of a deed that may not be done again
MAX_LENGTH = 80  # a long answer is three messages
FILES = ("mailbox/mailbox.db", "agent/answers.db", "fakeplatform/platform.db")

CONFIG = """
[plugins]
agent = {{}}
mailbox = {{}}
parrot = {{}}
deeds = {{ use = "parrot:deeds" }}
fakeplatform = {{ use = "fakeplatform:{attribute}" }}
{database}
[defaults]
intensity = 0
watchdog = {watchdog}
env = {{ DEEDS = "{folder}" }}
[services.fakeplatform.config]
socket = "{socket}"
settle = {settle}
deliver_timeout = 2.0
max_length = {max_length}
uncertain = "{uncertain}"
"""


@dataclass(frozen=True)
class Kind:
    """What the platform can do.

    Args:
        lookup: It can say whether it has a message.
        dedupe: A nonce that it knows is the same message.
        uncertain: What the bot does where the platform cannot say.
        database: The database service is on the host, with a SQLite file.
        settle: After which a send of a killed bot is no longer under way.
    """

    lookup: bool = False
    dedupe: bool = False
    uncertain: str = "skip"
    database: bool = False
    settle: float = 0.3


class Trial:
    """One host on one platform.

    Args:
        host: The running host.
        platform: Where it answers.
        seed: Of what is drawn.
    """

    def __init__(self, host: Host, platform: FakePlatform, seed: int) -> None:
        self.host, self.platform = host, platform
        self.drawn = random.Random(seed)
        self.questions = 0
        self.kills = self.hits = 0  # a hit: something was not answered yet

    # --- what happens -----------------------------------------------------------------------

    def burst(self, most: int = BURST, kinds: Sequence[str] = KINDS) -> None:
        """Ask something in each room; the questions of the rooms alternate."""
        rooms = [room for room in ROOMS for _ in range(self.drawn.randint(1, most))]
        self.drawn.shuffle(rooms)
        for room in rooms:
            self.ask(room, self.drawn.choice(kinds))

    def ask(self, room: str, kind: str) -> str:
        """Ask one question; return its word."""
        self.questions += 1
        self.platform.say(room, f"q{self.questions} {kind}")
        return f"q{self.questions}"

    def kill(self, *victims: str, answered: bool = True) -> None:
        """Ask in all rooms; kill the victims 0 to 50 ms later, at once.

        Args:
            victims: One or more of them.
            answered: Wait for all answers; else for those to questions that are asked after it,
                which are behind the others of their rooms.
        """
        names = [SERVICES[victim] for victim in victims if victim != SUPERVISOR]
        if names:
            self.host.ask("reset", *names)  # a second crash would wait
        pids = [self.host.status(name)["pid"] for name in names]
        after = self.drawn.uniform(0, KILL_S)
        self.burst()
        time.sleep(after)  # the moment is what is tried
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if SUPERVISOR in victims:
            self.host.end(signal.SIGKILL)
        self.kills += 1
        self.hits += bool(self.platform.counts().unanswered)
        if SUPERVISOR in victims:
            self.host.up()
        for name, pid in zip(names, pids, strict=True):
            self.host.until_reborn(name, pid)
        if answered:
            self.until_answered()
        else:
            last = {self.ask(room, "short") for room in ROOMS}
            until(lambda: not last & set(self.platform.counts().unanswered))

    def crash(self) -> None:
        """Kill every process of the host, as a power cut does, but for what the disk has."""
        workers = [row["pid"] for row in self.host.rows().values() if row["pid"]]
        self.host.end(signal.SIGKILL)
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(alive, workers)), what="all workers have ended")

    def until_answered(self) -> Counts:
        """Wait for the whole answer to each question."""
        with self.host.shown():
            return self.platform.until_answered()

    def until_idle(self) -> None:
        """Wait until every message is acknowledged: nothing more is said after that."""

        def waiting() -> int:
            listed = asyncio.run(self.host.call("mailbox", "ls"))
            return sum(row["waiting"] for row in listed["receivers"])

        with self.host.shown():
            until(lambda: not waiting(), what="the mailbox is empty")

    # --- what came of it --------------------------------------------------------------------

    def faults(self) -> dict[str, list[str]]:
        """Return what must not be: answers that lack, come twice or out of order, or are none; and
        deeds that were done twice."""
        self.until_idle()
        counts = self.platform.counts()
        deeds = [word for word, times in self.deeds("DEED").items() if times > 1]
        failures = [text for text in counts.unmarked if not text.startswith(INTERRUPTED)]
        more = {"done twice": deeds, "failures": failures}
        return counts.faults | {name: words for name, words in more.items() if words}

    def deeds(self, name: str) -> Counter[str]:
        """Return how often an action was run for each question."""
        path = self.host.folder / name
        return Counter(path.read_text().split() if path.exists() else [])

    # --- the files --------------------------------------------------------------------------

    def lose(self, file: str) -> None:
        """Remove one of the three files; the host has ended."""
        path = self.host.home / "state" / "services" / file
        for one in path.parent.glob(f"{path.name}*"):
            one.unlink()

    def back_up(self, folder: Path) -> None:
        """Copy the folders of the three files; the host has ended."""
        for path in self.files():
            shutil.copytree(path.parent, folder / path.parent.name)

    def restore(self, folder: Path) -> None:
        """Bring the copied folders back; the host has ended."""
        for path in self.files():
            shutil.rmtree(path.parent)
            shutil.copytree(folder / path.parent.name, path.parent)

    def files(self) -> list[Path]:
        """Return the three files that answers depend on."""
        return [self.host.home / "state" / "services" / file for file in FILES]

    def outcomes(self) -> Counter[str]:
        """Return how many parts the platform's log has of each outcome. The host has ended."""
        with contextlib.closing(sqlite3.connect(self.files()[2])) as db:
            return Counter(dict(db.execute("SELECT state, count(*) FROM sends GROUP BY state")))


@contextlib.contextmanager
def trial(kind: Kind, seed: int = 1, watchdog: float = 10.0) -> Iterator[Trial]:
    """Run a platform, and a host that answers there; its services have this watchdog."""
    plugins = ["fakeplatform", "parrot"]
    with fake_platform(seed) as platform, hosting("", plugins, up=False) as host:
        platform.set(lookup=kind.lookup, dedupe=kind.dedupe, latency=LATENCY_S)
        text = CONFIG.format(
            attribute="lookup" if kind.lookup else "plugin",
            database="database = {}" if kind.database else "",
            folder=host.folder,
            socket=platform.path,
            max_length=MAX_LENGTH,
            settle=kind.settle,
            uncertain=kind.uncertain,
            watchdog=watchdog,
        )
        host.write("config.toml", text)
        host.up()
        yield Trial(host, platform, seed)
