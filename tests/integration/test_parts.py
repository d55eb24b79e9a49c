"""A plugin's actions, models and the like run in its own worker, whoever uses them."""

import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.host import LONG_GRACE, Host, found, hosting
from tests.support.waiting import eventually

from garrison.ipc import Client, RemoteError, ServiceUnavailable

CONFIG = """
[plugins]
free = { use = "parts:without_service" }
models = { use = "parts:with_services" }
asking = { use = "parts:asking" }

[services.words-2]
plugin = "models"
type = "words"
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Return a host that all tests here share."""
    with hosting(LONG_GRACE + CONFIG, plugins=["parts"]) as host:
        yield host


def asker(client: Client) -> Any:
    """Return the service that uses the others' parts."""
    return found(client, "asker")


async def test_parts_live_in_the_first_service_or_in_a_worker_of_their_own(running: Host) -> None:
    """Each part is in one worker alone; a plugin without a service has one under its NAME."""
    async with running.connect() as client:
        known = await asker(client).known()

    assert known["actions"] == [
        ["SHOUT", "free"],
        ["SEGFAULT", "free"],
        ["REFUSE", "free"],
        ["NOTHING", "words"],
    ]
    assert known["providers"][0] == ["SECOND", "free"]
    assert known["evaluators"] == [["NOTE", "free"]]
    assert running.status("free")["state"] == "running"


async def test_an_action_runs_in_its_own_worker(running: Host) -> None:
    """What it yields comes one by one; what it is given has arrived."""
    async with running.connect() as client:
        front = asker(client)
        assert await front.applies("SHOUT", "be loud") is True
        assert await front.applies("SHOUT", "be still") is False
        made = await front.act("SHOUT", "be loud")

    assert made[0]["text"] == "BE LOUD"
    assert made[1]["text"] == "in free, after 1, knowing nothing"
    assert (made[2]["values"], made[2]["action"]) == ({"loud": True}, "SHOUT")


async def test_what_an_action_raises_is_its_callers(running: Host) -> None:
    """A handler that raises, or says False, ends nothing."""
    async with running.connect() as client:
        before = running.status("free")["pid"]
        with pytest.raises(RemoteError, match="no such thing"):
            await asker(client).applies("REFUSE", "x")
        (made,) = await asker(client).act("REFUSE", "x")

    assert made["success"] is False
    assert running.status("free")["pid"] == before


async def test_an_action_that_segfaults_takes_its_own_worker_alone(running: Host) -> None:
    """Its caller gets the error, other components keep working, and the worker restarts."""
    async with running.connect() as client:
        pids = {name: row["pid"] for name, row in running.rows().items()}
        # On a loaded machine the end is announced before the launcher has reported its cause.
        with pytest.raises(RemoteError, match=r"SIGSEGV|its process ended") as caught:
            await asker(client).act("SEGFAULT", "x")
        assert caught.value.type_name == "ServiceLost"
        assert (await asker(client).act("SHOUT", "again"))[0]["text"] == "AGAIN"
        now = {name: row["pid"] for name, row in running.rows().items()}

    assert {name for name in pids if pids[name] != now[name]} == {"free"}


async def test_state_is_composed_of_the_providers_in_their_order(running: Host) -> None:
    """A late provider is left out; a dynamic one runs only when it is named."""
    async with running.connect() as client:
        state = await asker(client).compose("tea", [])
        assert state["text"] == "about tea\n\nthe second"
        assert state["values"] == {"n": 2}
        state = await asker(client).compose("tea", ["NAMED", "TARDY"], True)

    assert state["text"] == "only where it is named"


async def test_events_and_evaluators_run_in_the_plugins_worker(running: Host) -> None:
    """An event's payload is made what the handler's annotation says."""
    async with running.connect() as client:
        await asker(client).emit("hark")
        assert await asker(client).evaluate("x") is True
        seen = await asker(client).model("SEEN", None)

    assert "hark" in seen
    assert "evaluated" in seen


async def test_models_go_by_priority_and_by_name(running: Host) -> None:
    """The higher priority answers; a provider's NAME or type means that one alone."""
    async with running.connect() as client:
        front = asker(client)
        assert await front.model("TEXT_LARGE", "one two") == "one two "
        assert await front.model("TEXT_LARGE", "one two", "plain") == "plain: one two"
        assert await front.model("TEXT_EMBEDDING", "four") == [4.0]
        assert await front.model("IMAGE", {"prompt": "cat"}) == {"url": "free/cat"}
        assert await front.pieces("TEXT_SMALL", "one two") == ["one ", "two "]
        messages = {"messages": [{"role": "user", "content": "from a list"}]}
        assert await front.model("TEXT_SMALL", messages) == "from a list "


async def test_a_model_or_provider_that_is_unknown_is_named_with_what_there_is(
    running: Host,
) -> None:
    """The error lists the providers that exist."""
    async with running.connect() as client:
        front = asker(client)
        assert "no service offers it; offered model types: IMAGE, SEEN" in await front.model(
            "X", ""
        )
        error = await front.model("TEXT_LARGE", "", "gpt")
        assert error.endswith("'gpt' does not offer it; it is offered by words, plain, words-2")


async def test_if_a_model_dies_the_next_provider_answers(running: Host) -> None:
    """A provider of lower priority answers in its place, without a wait for the restart."""
    async with running.connect() as client:
        before = {name: running.status(name)["pid"] for name in ("words", "words-2")}
        assert await asker(client).model("TEXT_LARGE", "die") == "plain: die"
        for name, pid in before.items():  # both have died of it
            running.until_reborn(name, pid)


async def test_a_stream_that_has_begun_is_not_begun_again(running: Host) -> None:
    """Its reader has the first piece; another provider's text would not follow from it."""
    async with running.connect() as client:
        front = asker(client)
        assert await front.model("TEXT_LARGE", "runs", "words") == "runs "  # as it now knows
        pieces = front.pieces("TEXT_LARGE", "one wait")

        async def begun() -> bool:
            return bool(await front.so_far() == ["one "])

        await eventually(begun)
        pid = running.kill("words")
        assert await pieces == ["one ", "ServiceLost"]
        running.until_reborn("words", pid)


async def test_the_only_provider_of_a_model_is_waited_for(running: Host) -> None:
    """Without another provider the request is sent to the next incarnation, up to three times."""
    async with running.connect() as client:
        front = asker(client)
        # On a loaded machine the end is announced before the launcher has reported its cause.
        error = await front.model("TEXT_LARGE", "die", "words-2")
        assert re.fullmatch(r"no model TEXT_LARGE: words-2: .* was lost: .*", error)
        assert await front.model("TEXT_LARGE", "live", "words-2") == "live "


async def test_messages_are_sent_by_a_handler_else_by_the_service(running: Host) -> None:
    """A send handler's source need not be a NAME; without a handler, `send_message` sends."""
    async with running.connect() as client:
        front = asker(client)
        assert await front.send("pigeon", "hi") == "asker sent hi to 7"
        assert await front.send("asker", "hi") == "7: hi"
        with pytest.raises(RemoteError, match="absent is not configured") as caught:
            await front.send("absent", "hi")
        assert caught.value.type_name == ServiceUnavailable.__name__
        with pytest.raises(RemoteError, match="without a method send_message"):
            await front.send("words", "hi")


async def test_a_late_registration_is_published(running: Host) -> None:
    """An action that a running service registers is there for the others."""
    async with running.connect() as client:
        front = asker(client)
        await front.register("LATE")

        async def known() -> bool:
            return ["LATE", "asker"] in (await front.known())["actions"]

        await eventually(known)
        assert (await front.act("LATE", "x"))[0]["text"] == "late"


async def test_what_is_unregistered_is_offered_no_longer(running: Host) -> None:
    """Its name is free again; a name that there is not changes nothing."""
    async with running.connect() as client:
        front = asker(client)
        await front.register("PASSING")

        async def known(there: bool) -> bool:
            return (["PASSING", "asker"] in (await front.known())["actions"]) is there

        await eventually(lambda: known(True))
        assert await front.unregister("PASSING") is True
        await eventually(lambda: known(False))
        assert await front.unregister("PASSING") is False


async def test_parts_are_there_after_the_supervisor_was_killed(running: Host) -> None:
    """The next supervisor learns them from the living workers."""
    running.end(signal.SIGKILL)
    running.up()
    async with running.connect() as client:
        await client.get_service_load_promise("asker")
        assert ["SHOUT", "free"] in (await asker(client).known())["actions"]
        assert await asker(client).model("IMAGE", {"prompt": "cat"}) == {"url": "free/cat"}


WORDY = """
from garrison.workers import Action, Plugin
text = "x" * 1000
actions = [Action(f"A{n}", handler=lambda: None, examples=[text]) for n in range(200)]
plugin = Plugin("wordy", actions=actions)
"""


def test_a_directory_may_be_larger_than_a_message() -> None:
    """The bound on messages does not keep a program from joining."""
    names = [f"wordy-{n}" for n in range(6)]  # of 200 kB each
    rows = "".join(f'{name} = {{ use = "wordy:plugin" }}\n' for name in names)
    config = f"[host]\nmax_message = {1 << 20}\n[plugins]\n{rows}"
    with hosting(config, files={"wordy.py": WORDY}) as host:
        old = host.kill("wordy-0")
        host.until_reborn("wordy-0", old)
        assert {row["state"] for row in host.rows().values()} == {"running"}
