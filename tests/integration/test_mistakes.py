"""Common mistakes of an author end in a sentence about what was written, and where."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.waiting import until

BOT = """
import functools, sys, asyncio
from garrison.workers import Plugin, Service

class Bot(Service):
    service_type = "bot"
    limit = 3
    class Inner: pass

    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        service.greeting = "hello"
        return service

    @property
    def size(self): return 1
    @functools.lru_cache
    def cached(self, a): return a
    @functools.cached_property
    def once(self): return 1
    async def leave(self, code):
        sys.exit(code)
    def leave_thread(self, code):
        sys.exit(code)
    async def leave_later(self, code):
        self.task = asyncio.get_running_loop().create_task(self.leave(code))
    async def spawn_it(self, code):
        self.spawn(self.leave(code))

class Starter(Service):
    service_type = "starter"
    @classmethod
    async def start(cls, runtime):
        sys.exit("no token: set BOT_TOKEN")

plugin = Plugin(name="bot", services=[Bot, Starter])
"""
IMPORT = """
import os
import json

def key():
    return os.environ["NO_SUCH_KEY"]

KEY = key()
"""
TABLE = "import json\n\nTABLE = json.loads('{')\n"
PLAIN = """
from garrison.workers import Plugin, Service

class Plain(Service):
    service_type = "plain"
    @classmethod
    def start(cls, runtime):
        return cls(runtime)

plugin = Plugin(name="plain", services=[Plain])
"""
CONFIG = """
[plugins.bot]
[plugins.keyed]
[plugins.table]
[plugins.plain]
[services.bot]
[services.starter]
restart = "temporary"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run a host."""
    files = {"bot.py": BOT, "keyed.py": IMPORT, "table.py": TABLE, "plain.py": PLAIN}
    with hosting(CONFIG, files=files) as host:
        yield host


def test_a_plugin_that_cannot_be_read_names_the_author_s_line(running: Host) -> None:
    """Not the line of the library that it called."""
    rows = running.rows()

    assert rows["keyed"]["reason"].endswith(
        f"KeyError: 'NO_SUCH_KEY' ({running.folder}/keyed.py:6)"
    )
    assert rows["table"]["reason"].endswith(f"({running.folder}/table.py:3)")


def test_check_finds_a_start_that_is_a_plain_def(running: Host) -> None:
    """As the supervisor does."""
    checked = running.run("check", json=True)

    assert checked.code == 5
    sentence = "Plain.start is a plain def; it must be `async def`, in a classmethod"
    assert any(sentence in error for error in checked.answer["data"]["errors"])
    assert sentence in running.rows()["plain"]["reason"]
    assert any("bot.cached cannot be called: functools" in x for x in checked.data["notes"])


def test_a_name_that_is_no_method_says_what_it_is(running: Host) -> None:
    """A property, a cached method, an attribute of the class or of the instance, a private name."""

    def refused(name: str) -> str:
        ran = running.run("call", "bot", name, "1")
        assert ran.code == 1, ran
        return ran.err

    assert "bot.size: is a property" in refused("size")
    assert "bot.once: is a property" in refused("once")
    assert "bot.cached: cannot be called: functools.cache" in refused("cached")
    assert "bot.limit: is an attribute (int)" in refused("limit")
    assert "bot.greeting: is an attribute (str)" in refused("greeting")
    assert "bot.Inner: is a class" in refused("Inner")
    for name in ("__class__", "_client", "__init__"):
        assert f"bot.{name}: a name that begins with _ is private" in refused(name)


async def test_sys_exit_with_a_text_keeps_it(running: Host) -> None:
    """In a method, in a thread, in a task of one's own, in `spawn` and in `start`."""
    assert running.status("starter")["reason"] == "no token: set BOT_TOKEN"
    async with running.connect() as client:
        for number, method in enumerate(("leave", "leave_thread", "leave_later", "spawn_it")):
            text = f"end {number}: the disk is gone"
            pid = running.status("bot")["pid"]
            calling = getattr(found(client, "bot"), method)(text)
            await asyncio.to_thread(running.until_reborn, "bot", pid)  # the loop sends the call
            await asyncio.gather(calling, return_exceptions=True)
            death = running.status("bot")["deaths"][0]
            assert death["cause"] == f"an exception ended it: {text}", method
            assert text in running.log("bot")


async def test_sys_exit_with_a_number_is_the_exit_code(running: Host) -> None:
    """As of any process."""
    pid = running.status("bot")["pid"]
    async with running.connect() as client:
        calling = found(client, "bot").leave(3)
        await asyncio.to_thread(running.until_reborn, "bot", pid)
        await asyncio.gather(calling, return_exceptions=True)
    until(lambda: "code 3" in running.status("bot")["deaths"][0]["cause"])
