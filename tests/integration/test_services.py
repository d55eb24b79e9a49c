"""What a service finds: other services, events, settings, and its own secrets alone."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.services.echo import EchoService
from tests.support.host import Host, Hosting, found, hosting
from tests.support.waiting import PATIENCE, SOON, until

from garrison.ipc import Client, ServiceUnavailable

SECRET, SECRET_EU, FROM_FILE = "s3cret-token", "s3cret-token-eu", "s3cret-file"

CONFIG = """
[plugins.echo]
[plugins.signs]

[services.echo]
secrets = ["TOKEN"]
env = { COLOUR = "blue", EMPTY = "", TZ = "Asia/Tokyo" }
pass_env = ["PASSED"]

[services.echo-eu]
plugin = "echo"
type = "echo"
secrets = { TOKEN = "TOKEN_EU" }

[services.filed]
plugin = "echo"
env_file = "filed.env"

[services.asleep]
plugin = "echo"
autostart = false

[services.broken]
plugin = "echo"
secrets = ["NOWHERE"]

[services.signs.config]
word = "spoken"

[services.deaf]
plugin = "signs"
type = "listener"
config = { fails = true }

[services.mortal]
plugin = "signs"
type = "listener"
"""
ENV = {"TOKEN": SECRET, "TOKEN_EU": SECRET_EU, "PASSED": "on", "PRIVATE": "private"}
FILES = {"filed.env": f"# for one service\nFILED='{FROM_FILE}'\nexport PLAIN=yes\n"}


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run services of every kind."""
    # A forked launcher would have the secrets in its memory, of what forked it.
    with hosting(CONFIG, ["echo", "signs"], FILES, ENV, forked=False) as host:
        yield host


@pytest.fixture
async def client(running: Host) -> AsyncIterator[Client]:
    """Join the host."""
    async with running.connect() as client:
        yield client


def named(proxy: object) -> str:
    """Return the NAME that a proxy stands for."""
    return repr(proxy).split()[1].rstrip(":")


def test_no_message_of_garrisons_own_is_refused(running: Host) -> None:
    """Readers, workers, programs and orders: each is known for what it is."""
    assert running.events("frame.refused") == []
    assert running.events("member.turned_away") == []


# --- get_service and its family -----------------------------------------------------------


async def test_a_name_takes_precedence_over_a_type(client: Client) -> None:
    """A NAME means that one service; a type means the first wanted in config order."""
    assert named(client.get_service("echo-eu")) == "echo-eu"
    assert named(client.get_service("echo")) == "echo"
    assert named(client.get_service("listener")) == "listener"
    assert named(client.get_service(EchoService)) == "echo"


async def test_a_class_means_its_type(host: Hosting) -> None:
    """The first wanted of it in config order, whatever service has that type for a NAME."""
    config = """
[plugins.signs]
[plugins.echo]
[services.echo]
plugin = "signs"
type = "signs"
[services.echo-1]
plugin = "echo"
type = "echo"
autostart = false
[services.echo-2]
plugin = "echo"
type = "echo"
"""
    one = host(config, ["signs", "echo"])
    async with one.connect() as client:
        assert named(client.get_service("echo")) == "echo"
        assert named(client.get_service(EchoService)) == "echo-2"
        assert await (await client.get_service_load_promise(EchoService)).add(1) == 3
        await asyncio.to_thread(one.ask, "stop", "echo-2")
        await asyncio.to_thread(one.ask, "start", "echo-1")
        assert named(client.get_service(EchoService)) == "echo-1"


async def test_two_instances_of_a_type_are_two_processes(client: Client) -> None:
    """The same code runs under two NAMEs, each with its own worker."""
    assert await found(client, "echo").pid() != await found(client, "echo-eu").pid()


async def test_an_unconfigured_service_is_none(client: Client) -> None:
    """No service, no error."""
    assert client.get_service("absent") is None
    assert not client.has_service("absent")
    assert client.get_services_by_type("absent") == []
    assert client.has_service("echo")
    assert client.has_service(EchoService)
    with pytest.raises(TypeError, match="service_type"):
        client.get_service(object)


async def test_the_families_are_in_config_order(client: Client) -> None:
    """By type, all of them, and the types themselves."""
    echoes = ["echo", "echo-eu", "filed", "asleep", "broken"]
    assert [named(proxy) for proxy in client.get_services_by_type("echo")] == echoes
    everything = client.get_all_services()
    assert (
        set(everything)
        == {"echo", "signs", "listener"}
        == set(client.get_registered_service_types())
    )
    assert {named(proxy) for proxy in everything["listener"]} == {"listener", "deaf", "mortal"}


async def test_a_service_has_the_same_family(client: Client) -> None:
    """A worker's runtime knows what a program's client knows."""
    known = await found(client, "echo").known()
    assert set(known) == {"echo", "signs", "listener"}
    assert len(known["echo"]) == 5


async def test_the_load_promise_of_a_running_service_resolves_at_once(client: Client) -> None:
    """By NAME, by type and by class."""
    assert named(await client.get_service_load_promise("echo-eu")) == "echo-eu"
    proxy = await client.get_service_load_promise(EchoService)
    assert await proxy.add(1) == 3


@pytest.mark.parametrize(
    ("name", "reason"),
    [("absent", "not configured"), ("broken", "failed"), ("asleep", "registered")],
)
async def test_the_load_promise_of_a_service_that_will_not_run_fails_at_once(
    client: Client, name: str, reason: str
) -> None:
    """What is unknown, failed, or not to run is not waited for."""
    began = time.monotonic()
    with pytest.raises(ServiceUnavailable, match=reason):
        await client.get_service_load_promise(name, timeout=PATIENCE)
    assert time.monotonic() - began < SOON


async def test_a_call_to_a_service_that_does_not_run_ends_at_once(client: Client) -> None:
    """A service that is failed, or not to run, is no use waiting for."""
    for name in ("broken", "asleep"):
        with pytest.raises(ServiceUnavailable):
            await found(client, name).echo(1)


LATE = """
import asyncio
from pathlib import Path
from garrison.workers import Plugin, Service

class LateService(Service):
    service_type = "late"
    @classmethod
    async def start(cls, runtime):
        while not Path("{gate}").exists():
            await asyncio.sleep(0.02)
        return cls(runtime)
    async def hello(self) -> str:
        return "at last"

class EarlyService(Service):
    service_type = "early"
    @classmethod
    async def start(cls, runtime):
        service = cls(runtime)
        late = await runtime.get_service_load_promise("late")
        service.greeting = await late.hello()
        return service
    async def said_so(self) -> str:
        return self.greeting

plugin = Plugin(name="late", services=[EarlyService, LateService])
"""


async def test_the_load_promise_waits_for_a_late_start(host: Hosting, tmp_path: Path) -> None:
    """A program, and another service within its own start, wait until it runs; a call that is
    made before waits likewise."""
    gate = tmp_path / "gate"
    one = host("[plugins.late]", files={"late.py": LATE.format(gate=gate)}, up=False)
    one.start()
    until(lambda: one.head() is not None)
    async with one.connect() as client:
        with pytest.raises(ServiceUnavailable, match="still"):
            await client.get_service_load_promise("late", timeout=0.1)
        promise = asyncio.create_task(client.get_service_load_promise("late"))
        call = found(client, "late").hello()
        assert {one.status(name)["state"] for name in ("late", "early")} <= {
            "queued",
            "initializing",
            "starting",
        }
        gate.touch()
        assert await call == "at last"
        assert await (await promise).hello() == "at last"
        early = await client.get_service_load_promise("early", PATIENCE)
        assert await early.said_so() == "at last"


# --- events -------------------------------------------------------------------------------


async def test_an_event_reaches_every_subscriber(running: Host, client: Client) -> None:
    """One that fails and one that is dead harm no other; each handler of each service is run."""
    listener, mortal = found(client, "listener"), found(client, "mortal")
    assert running.status("listener")["events"] == ["news"]
    await client.emit_event("news", {"n": 1})
    assert await listener.got_so_far() == [{"n": 1}, "second"]
    assert await found(client, "deaf").got_so_far() == ["second"]
    assert "deaf cannot take it" not in await listener.got_so_far()

    await asyncio.to_thread(running.ask, "stop", "mortal")
    async with asyncio.timeout(PATIENCE):
        await client.emit_event("news", {"n": 2})
    assert (await listener.got_so_far())[2:] == [{"n": 2}, "second"]
    await asyncio.to_thread(running.ask, "start", "mortal")
    assert await mortal.got_so_far() == []


async def test_a_service_receives_its_own_events_too(client: Client) -> None:
    """`emit_event` returns when its own handlers and those of others have run."""
    listener, mortal = found(client, "listener"), found(client, "mortal")
    before = len(await mortal.got_so_far())
    await listener.emit({"n": 3})
    assert (await listener.got_so_far())[-2:] == [{"n": 3}, "second"]
    assert len(await mortal.got_so_far()) == before + 2


async def test_an_event_without_subscribers_is_no_error(client: Client) -> None:
    """It returns at once."""
    await client.emit_event("silence", 1)


# --- settings and secrets -----------------------------------------------------------------


async def test_a_setting_is_a_secret_or_of_the_environment(client: Client) -> None:
    """Secrets come under the service's own name for them; an empty text is a setting."""
    echo, europe = found(client, "echo"), found(client, "echo-eu")
    assert await echo.setting("TOKEN") == SECRET
    assert await europe.setting("TOKEN") == SECRET_EU
    assert await echo.setting("COLOUR") == "blue"
    assert await echo.setting("EMPTY") == ""
    assert await echo.setting("PASSED") == "on"
    assert await echo.setting("MISSING") is None
    assert await europe.setting("COLOUR") is None
    filed = found(client, "filed")
    assert await filed.setting("FILED") == FROM_FILE
    assert await filed.setting("PLAIN") == "yes"


async def test_a_service_sees_the_allow_list_and_what_it_was_given(client: Client) -> None:
    """`os.environ` has its secrets, and of the supervisor's environment little else."""
    seen = await found(client, "echo").environment()
    assert await found(client, "echo").time_zone() == "JST"  # not the launcher's
    assert seen["TOKEN"] == SECRET
    assert seen["PATH"] == os.environ["PATH"]
    assert not {"PRIVATE", "TOKEN_EU", "FILED"} & set(seen)
    seen = await found(client, "filed").environment()
    assert seen["FILED"] == FROM_FILE
    assert not {"PRIVATE", "TOKEN", "TOKEN_EU", "PASSED", "COLOUR"} & set(seen)


def holding(pid: int, secret: str) -> bool:
    """Tell whether a process has a text in its environment, its arguments or its memory."""
    needle = secret.encode()
    process = Path(f"/proc/{pid}")
    if needle in (process / "environ").read_bytes() or needle in (process / "cmdline").read_bytes():
        return True
    with (process / "mem").open("rb", 0) as memory:  # open to the parent's forebears alone
        for line in (process / "maps").read_text().splitlines():
            extent, modes, *_ = line.split()
            if "r" not in modes or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in extent.split("-"))
            try:
                memory.seek(begin)
                if needle in memory.read(end - begin):
                    return True
            except (OSError, ValueError):
                continue
    return False


def test_a_secret_is_in_its_own_services_process_alone(running: Host) -> None:
    """Not in another worker's memory, also of one started later, nor in the launcher's."""
    pid = running.kill("signs")
    running.until_reborn("signs", pid)
    rows = running.rows()
    pids = {name: row["pid"] for name, row in rows.items() if row["pid"]}
    others = {**pids, "launcher": running.launcher}
    for secret, owner in ((SECRET, "echo"), (SECRET_EU, "echo-eu"), (FROM_FILE, "filed")):
        # The longer one contains the shorter, so the first is looked for with what ends it.
        text = secret if secret != SECRET else f"{secret}\0"
        holders = [name for name, pid in others.items() if name != owner and holding(pid, text)]
        assert not [name for name in holders if name != "echo-eu" or secret != SECRET], secret
        assert holding(pids[owner], secret)


def test_a_secret_is_in_no_answer_and_no_file(running: Host) -> None:
    """`status`, events, logs and what is remembered hold none."""
    for secret in (SECRET, SECRET_EU, FROM_FILE):
        for words in (("status",), ("status", "*"), ("events",), ("logs",)):
            ran = running.run(*words, json=True)
            assert secret not in ran.out + ran.err
        for file in running.home.rglob("*"):
            if file.is_file():
                assert secret.encode() not in file.read_bytes(), file
        assert secret not in running.output


def test_a_secret_that_is_nowhere_fails_its_service_alone(running: Host) -> None:
    """It is FAILED, with what to do; the others run."""
    row = running.status("broken")
    assert row["state"] == "failed"
    assert "NOWHERE" in row["reason"]
    assert row["pid"] is None
    assert running.rows()["echo"]["state"] == "running"


# --- config values ------------------------------------------------------------------------


async def test_config_fills_the_services_class(client: Client) -> None:
    """`[services.NAME.config]` is the service's `config`, defaults included."""
    assert await found(client, "signs").word() == "spoken"


NO_FIT = [  # sections of a config, and what is reported: line, key, problem
    ("[services.signs.config]\nword = 3", 3, "services.signs.config.word", "expected str"),
    ("[services.signs.config]\nwrod = 'x'", 3, "services.signs.config.wrod", "'word'"),
    ("[services.signs]\nconfig.inner.a = 'x'", 3, "services.signs.config.inner", "int"),
    ("[plugins.signs.config]\nfile = 3", 3, "plugins.signs.config.file", "expected str"),
]


def with_config(config: str) -> str:
    """Return the config of a host whose service `signs` has these values."""
    return f"[plugins.signs]\n{config}\n[plugins.echo]\n"


def test_a_config_value_that_does_not_fit_is_found_by_check(host: Hosting) -> None:
    """It is reported with file, line and key."""
    one = host("", ["signs", "echo"], up=False)
    for config, line, key, problem in NO_FIT:
        one.write("config.toml", with_config(config))
        checked = one.run("check")
        assert checked.code == 5
        for part in (f"config.toml:{line}", key, problem):
            assert part in checked.err + checked.out


@pytest.mark.parametrize(("config", "line", "key", "problem"), [NO_FIT[0], NO_FIT[3]])
def test_a_config_value_that_does_not_fit_fails_that_service_alone(
    host: Hosting, config: str, line: int, key: str, problem: str
) -> None:
    """It is reported with file, line and key by `status`, and no process starts."""
    one = host(with_config(config), ["signs", "echo"])
    row = one.status("signs")
    assert (row["state"], row["generation"]) == ("failed", 0)
    for part in (f"config.toml:{line}", key, problem):
        assert part in row["reason"]
    assert one.status("echo")["state"] == "running"
    one.write("config.toml", "[plugins.signs]\n[plugins.echo]\n")
    one.ask("restart", "signs")
    assert one.status("signs")["state"] == "running"
