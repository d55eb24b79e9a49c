"""The twitter service on a server that is held to X's schema: what is not an answer under kills.

Those are in `tests/chaos/test_twitter.py`.
"""

import base64
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import hosting
from tests.support.platforms import Agent
from tests.support.waiting import SOON, eventually, until
from tests.support.x_client import APP_TOKEN, TOKENS, XServer, x_server

from garrison.ipc import NotSent, OrderFailed, PermanentFailure, RetryLater
from garrison.workers import Content, Media
from garrison.workers.services.twitter import TwitterService
from garrison.workers.services.twitter.text import weight
from garrison.workers.testing import Harness

pytestmark = pytest.mark.external

FILM = bytes(range(256)) * 5000  # more than one piece of an upload


@pytest.fixture(scope="module")
def server() -> Iterator[XServer]:
    """Run X."""
    with x_server() as there:
        yield there


@pytest.fixture
def x(server: XServer) -> Iterator[XServer]:
    """Return an empty X; what the bot and it exchange is as the schema has it."""
    server.reset()
    yield server
    server.read()
    assert server.counted["violations"] == []


class Bot:
    """The service, in this process.

    Args:
        harness: Its worker's parts.
        service: Itself.
        agent: Keeps what it hears.
    """

    def __init__(self, harness: Harness, service: TwitterService, agent: Agent) -> None:
        self.harness, self.service, self.agent = harness, service, agent


@contextlib.asynccontextmanager
async def started(
    x: XServer, folder: Path, secrets: dict[str, str] = TOKENS, **config: Any
) -> AsyncIterator[Bot]:
    """Run the service."""
    harness, agent = Harness("twitter", secrets, data_folder=folder), Agent()
    harness.add_fakes({"agent": agent})
    keys = {"base_url": x.url, "poll": 0.05, "poll_idle": 0.05, "settle": 0.0}
    try:
        service = await harness.start(TwitterService, keys | config)
        yield Bot(harness, service, agent)
        await service.stop()
    finally:
        await harness.close()
    harness.raise_failure()


def data(kind: str, content: bytes) -> Media:
    """Return an attachment that travels as its address."""
    return Media(f"data:{kind};base64,{base64.b64encode(content).decode()}")


async def seen(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something is so."""

    async def found() -> Any:
        return condition()

    return await eventually(found, SOON, what)


def second_after(at: float) -> Callable[[], bool]:
    """Return a condition that is true from the next whole second of the clock on."""
    return lambda: int(time.time()) > int(at)


async def test_a_mention_comes_in_with_its_picture(x: XServer, tmp_path: Path) -> None:
    """The first start does not answer what was there before; a later one reads on."""
    x.say("old", "from before")
    await seen(second_after(time.time()), "X counts whole seconds")
    async with started(x, tmp_path) as bot:
        said = x.say("tea", "look & tell", picture=True)
        heard = await bot.agent.heard.get()
        assert (heard.content.text, heard.metadata["username"]) == ("look & tell", "ada")
        assert heard.content.attachments[0].url.startswith("https://pbs.twimg.com/media/")
        await seen(lambda: bot.harness.reports.counts()["waiting"] == 0, "it is handed over")
        link = await bot.service.check_link()
        assert link["deaf"] is None
        assert link["last_alive_s"] < SOON
    assert heard.id == f"twitter/{said}/{said}"
    x.say("tea", "again")
    async with started(x, tmp_path) as bot:
        assert (await bot.agent.heard.get()).content.text == "again"
        assert bot.agent.heard.empty()


async def test_what_is_older_than_catch_up_is_passed_over(x: XServer, tmp_path: Path) -> None:
    """A position is kept also of what is not answered."""
    async with started(x, tmp_path):
        pass
    x.say("tea", "from before")
    await seen(second_after(time.time()), "X counts whole seconds")
    async with started(x, tmp_path, catch_up=False) as bot:
        await seen(lambda: x.requests("GET users/*/mentions") > 2, "it polls")
        x.say("tea", "now")
        assert (await bot.agent.heard.get()).content.text == "now"


async def test_a_long_answer_is_a_thread(x: XServer, tmp_path: Path) -> None:
    """5,000 characters with code arrive whole and in order; each part replies to the one before."""
    code = "\n".join(f"    line_{number} = {number} * 2" for number in range(150))
    words = " ".join(f"word{number}" for number in range(250))
    text = f"{words}\n\n```python\n{code}\n```\n\nThat is all."
    assert len(text) > 5000
    async with started(x, tmp_path) as bot:
        said = x.say("tea", "tell me everything")
        content = Content(text, in_reply_to=f"twitter/{said}/{said}")
        sent = await bot.service.send_message(said, content, id="a1")
    posts = [one for one in x.read() if one.bot]
    assert [one.id for one in posts] == sent.ids
    assert posts[0].reply_to == said
    assert all(after.reply_to == before.id for before, after in pairwise(posts))
    assert max(weight(one.text) for one in posts) <= 280
    whole = "\n".join(one.text for one in posts)
    for number in range(150):
        assert whole.count(f"line_{number} = {number} * 2") == 1
    found = [word for word in whole.split() if word.startswith("word")]
    assert found == words.split()
    assert all(one.text.count("```") % 2 == 0 for one in posts)


async def test_files_go_out(x: XServer, tmp_path: Path) -> None:
    """In pieces, and a film once X has worked on it; what cannot be sent is refused."""
    async with started(x, tmp_path) as bot:
        send = bot.service.send_message
        pictures = [data("image/png", b"one"), data("image/jpeg", b"two")]
        await send("timeline", Content("two pictures", attachments=pictures))
        await send("timeline", Content("", attachments=[data("video/mp4", FILM)]))
        with pytest.raises(NotSent, match="/etc/passwd"):
            await send("timeline", Content("a path", attachments=[Media("/etc/passwd")]))
        x.fault("POST media/upload/initialize", "500")
        await send("timeline", Content("again", attachments=[data("image/png", b"three")]))
        with pytest.raises(NotSent, match="that post is not there"):
            await send("5", "to a conversation that is none")
    posts = [one for one in x.read() if one.bot]
    kinds = [[x.counted["uploads"][key] for key in one.files] for one in posts]
    assert kinds == [
        [["image/png", 3], ["image/jpeg", 3]],
        [["video/mp4", len(FILM)]],
        [["image/png", 5]],
    ]
    assert [one.text for one in posts] == ["two pictures", "", "again"]


@pytest.mark.parametrize("sent", [Content("See https://a.org/?b=1&c=2 <now>"), Content("")])
async def test_a_post_with_a_file_is_found_again(x: XServer, tmp_path: Path, sent: Content) -> None:
    """X changes its text; the connection ends before its answer comes."""
    sent.attachments = [data("image/png", b"one")]
    async with started(x, tmp_path) as bot:
        x.fault("POST tweets", "after")
        done = await bot.service.send_message("timeline", sent)
    posts = [one for one in x.read() if one.bot]
    assert [one.id for one in posts] == done.ids


async def test_direct_messages(x: XServer, tmp_path: Path) -> None:
    """They come in once, and are answered in the same way; what is uncertain is looked up."""
    async with started(x, tmp_path, direct_messages=True) as bot:
        x.say_direct("psst")
        heard = await bot.agent.heard.get()
        assert (heard.room_id, heard.content.channel_type) == ("dm:9", "DM")
        x.fault("POST dm_conversations/with/*/messages", "after")
        sent = await bot.service.send_message("dm:9", "yes?")
        assert sent.outcome == "sent"
        assert await bot.service.forget_person("twitter", "9") == {"sends": 1}
    async with started(x, tmp_path, direct_messages=True) as bot:
        x.say_direct("again")
        assert (await bot.agent.heard.get()).content.text == "again"
    x.read()
    assert x.counted["direct"] == [["9", "psst"], ["7", "yes?"], ["9", "again"]]


async def test_what_other_services_can_do(x: XServer, tmp_path: Path) -> None:
    """Likes, reposts and deletions."""
    async with started(x, tmp_path) as bot:
        service = bot.service
        (post,) = (await service.send_message("timeline", "a post")).ids
        await service.like(post)
        await service.unlike(post)
        await service.repost(post)
        await service.unrepost(post)
        assert await service.delete_post(post) is True
        assert await service.delete_post(post) is False
        with pytest.raises(ValueError, match="a number"):
            await service.like("../users")
    x.read()
    acts = [f"{act} {post}" for act in ("like", "unlike", "repost", "unrepost")]
    assert x.counted["acts"] == acts


async def test_the_month_s_reserve_is_left_alone(x: XServer, tmp_path: Path) -> None:
    """Nothing is read below it, and `status` says until when; posts are still sent."""
    x.set(cap=1000, used=950)
    async with started(x, tmp_path, TOKENS | APP_TOKEN) as bot:
        shown = await seen(lambda: bot.harness.reports.warnings.get("budget"), "it warns")
        await bot.service.health()
        assert "until day 3 of the month" in shown
        await bot.service.send_message("timeline", "still here")
        assert bot.harness.reports.facts["posts_left"] == 50
    assert x.requests("GET users/*/mentions") == 0
    assert x.answers() == ["still here"]


async def test_a_page_is_no_larger_than_the_budget(x: XServer, tmp_path: Path) -> None:
    """Mentions that were missed are read in small pages, and none is skipped."""
    async with started(x, tmp_path):
        pass
    for number in range(12):
        x.say("tea", f"m{number}")
    x.set(cap=1000, used=880)
    async with started(x, tmp_path, TOKENS | APP_TOKEN, monthly_reserve=100) as bot:
        texts = [(await bot.agent.heard.get()).content.text for _ in range(12)]
    assert texts == [f"m{number}" for number in range(12)]


async def test_a_limit_of_reads_is_obeyed(x: XServer, tmp_path: Path) -> None:
    """With one request left, the next one waits for the reset."""
    x.limit("GET users/*/mentions", remaining=1, seconds=2.0)
    async with started(x, tmp_path) as bot:
        x.say("tea", "hello")
        await bot.agent.heard.get()
        x.say("tea", "again")
        before = x.requests("GET users/*/mentions")
        await bot.agent.heard.get()
    assert before <= 2
    assert "GET users/*/mentions" in x.counted["requests"]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"TWITTER_ACCESS_TOKEN": ""}, "no TWITTER_ACCESS_TOKEN: .*developer.x.com"),
        ({"TWITTER_ACCESS_TOKEN": "7-bad"}, "X refuses the tokens .*developer.x.com"),
    ],
)
async def test_tokens_that_are_no_good(
    x: XServer, tmp_path: Path, changed: dict[str, str], why: str
) -> None:
    """It is not tried again, and the place of good ones is named."""
    with pytest.raises(PermanentFailure, match=why):
        async with started(x, tmp_path, TOKENS | changed):
            pass


async def test_too_many_checks_of_the_tokens(x: XServer, tmp_path: Path) -> None:
    """The account's id is part of its token; without it the start is put off."""
    x.fault("GET users/me", "429", times=2, seconds=60.0)
    async with started(x, tmp_path) as bot:
        x.say("tea", "hello")
        await bot.agent.heard.get()
    with pytest.raises(RetryLater, match="how often tokens are checked"):
        async with started(x, tmp_path, TOKENS | {"TWITTER_ACCESS_TOKEN": "token"}):
            pass


async def test_tokens_that_are_revoked(x: XServer, tmp_path: Path) -> None:
    """The service ends for good, with the reason."""

    async def revoked() -> None:
        async with started(x, tmp_path) as bot:
            x.fault("GET users/*/mentions", "401", times=9)
            await seen(bot.harness.background.failed.done, "it ends")

    with pytest.raises(PermanentFailure, match="X refuses the tokens: 401"):
        await revoked()


async def test_an_app_that_may_not_read_mentions(x: XServer, tmp_path: Path) -> None:
    """It is shown as a connection that has ended; posts are still sent."""
    x.fault("GET users/*/mentions", "403", times=1)
    async with started(x, tmp_path) as bot:

        async def shown() -> bool:
            return "does not let" in str((await bot.service.check_link())["disconnected"])

        await eventually(shown, SOON)
        await bot.service.send_message("timeline", "still here")
    assert x.answers() == ["still here"]


async def test_answers_that_are_slow(x: XServer, tmp_path: Path) -> None:
    """A post whose answer comes too late is looked for, and is there."""
    x.fault("POST tweets", "slow", seconds=1.5)
    async with started(x, tmp_path, deliver_timeout=0.4) as bot:
        sent = await bot.service.send_message("timeline", "once")
    assert [one.id for one in x.read() if one.bot] == sent.ids


def test_one_account_is_one_service(x: XServer) -> None:
    """A second service with the same token is refused; a probe shows that the first is well."""
    text = f"""
[plugins.twitter]
[services.twitter]
secrets = {list(TOKENS)}
[services.twitter.config]
base_url = "{x.url}"
[services.second]
plugin = "twitter"
autostart = false
secrets = {list(TOKENS)}
[services.second.config]
base_url = "{x.url}"
"""
    with hosting("", [], {"config.toml": text}, TOKENS, up=False) as host:
        host.up()
        until(lambda: host.status("twitter")["state"] == "running")
        with pytest.raises(
            OrderFailed, match=r"TWITTER_ACCESS_TOKEN is in use by .* the service twitter"
        ):
            host.ask("start", "second")
        assert host.run("probe", "twitter").code == 0
