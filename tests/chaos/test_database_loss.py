"""The database service, its worker killed and its server lost in the middle of writes."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
from tests.support.host import Host, found, hosting
from tests.support.postgres import NEEDS_POSTGRES, PASSWORD, Postgres, postgres
from tests.support.waiting import eventually, until

from garrison.ipc import CallError, RemoteError, with_timeout

WRITERS = 8
SQLITE = "[plugins.database]\n"


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Return a server of this test's own."""
    with postgres() as there:
        yield there


def on_server(server: Postgres) -> str:
    """Return the config of a host on a server."""
    return f'{SQLITE}[services.database.config]\nurl = "{server.url}"\n'


class Writers:
    """Callers that store memories, each one after the other, until they are told to end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self.stored: set[str] = set()
        self.failed: list[str] = []
        self.ending = False

    async def run(self) -> None:
        async with self._host.connect() as client:
            await asyncio.gather(*(self._write(client, number) for number in range(WRITERS)))

    async def _write(self, client: object, number: int) -> None:
        database = with_timeout(found(client, "database"), 60.0)  # type: ignore[arg-type]
        count = 0
        while not self.ending:
            count += 1
            memory = {"content": {"text": "x"}, "id": f"{number}-{count}"}
            try:
                self.stored.add(await database.create_memory(memory))
            except CallError as error:
                self.failed.append(str(error))

    async def until_stored(self, count: int) -> None:
        """Wait until so many more are stored."""
        wanted = len(self.stored) + count

        async def enough() -> bool:
            return len(self.stored) >= wanted

        await eventually(enough)


async def there(host: Host) -> set[str]:
    """Return the ids of all memories."""
    async with host.connect() as client:
        database = found(client, "database")
        return {memory["id"] for memory in await database.get_memories()}


async def keep_killing(host: Host) -> Writers:
    """Kill the worker three times while memories are stored."""
    writers = Writers(host)
    work = asyncio.ensure_future(writers.run())
    for _ in range(3):
        await writers.until_stored(50)
        old = host.kill("database")
        await asyncio.to_thread(host.until_reborn, "database", old)
    await writers.until_stored(50)
    writers.ending = True
    await work
    return writers


async def test_what_a_killed_worker_acknowledged_is_there() -> None:
    """On SQLite: also what it stored in the millisecond before. Its callers wait for the next."""
    with hosting(SQLITE) as host:
        host.wait_for("database", "running")
        writers = await keep_killing(host)
        assert writers.stored <= await there(host)
        assert writers.failed == []


@pytest.mark.external
class TestPostgres:
    """With a server."""

    pytestmark = list(NEEDS_POSTGRES)

    async def test_a_killed_worker(self, server: Postgres) -> None:
        """What it acknowledged is there."""
        with hosting(on_server(server)) as host:
            host.wait_for("database", "running")
            writers = await keep_killing(host)
            assert writers.stored <= await there(host)
            assert writers.failed == []

    async def test_a_killed_server(self, server: Postgres) -> None:
        """Callers wait, the same worker goes on, and nothing acknowledged is gone. Meanwhile a
        warning and the errors of impatient callers name the server, without its password."""
        with hosting(on_server(server)) as host:
            before = host.wait_for("database", "running")
            writers = Writers(host)
            work = asyncio.ensure_future(writers.run())
            for _ in range(2):
                await writers.until_stored(50)
                await asyncio.to_thread(server.kill)
                await self._check_outage(host, server)
                await asyncio.to_thread(server.start)
            await writers.until_stored(50)
            writers.ending = True
            await work

            assert writers.failed == []
            assert writers.stored <= await there(host)
            until(lambda: not host.status("database")["warnings"])
            assert host.status("database")["pid"] == before["pid"]
            assert PASSWORD not in host.log("database")

    async def _check_outage(self, host: Host, server: Postgres) -> None:
        name = f"PostgreSQL at 127.0.0.1:{server.port}"
        (warning,) = await asyncio.to_thread(until, lambda: host.status("database")["warnings"])
        assert name in warning
        assert PASSWORD not in warning
        async with host.connect() as client:
            database = with_timeout(found(client, "database"), 1.0)
            with pytest.raises(RemoteError, match=name) as raised:
                await database.count_memories()
            with pytest.raises(RemoteError, match=name):
                await database.set_cache("k", 1)
        assert PASSWORD not in str(raised.value)
        assert host.status("database")["state"] == "running"

    async def test_a_server_that_hangs(self, server: Postgres) -> None:
        """A call ends at its deadline with the server's name; later ones are answered again."""
        with hosting(on_server(server)) as host:
            host.wait_for("database", "running")
            await host.call("database", "set_cache", "k", 1)
            server.signal(signal.SIGSTOP)
            async with host.connect() as client:
                database = with_timeout(found(client, "database"), 1.0)
                for method, arguments in (("get_cache", ("k",)), ("set_cache", ("k", 2))):
                    with pytest.raises(RemoteError, match="PostgreSQL at"):
                        await getattr(database, method)(*arguments)
                server.signal(signal.SIGCONT)
                patient = with_timeout(found(client, "database"), 60.0)
                assert await patient.set_cache("k", 3)
                assert await patient.get_cache("k") == 3

    async def test_a_start_without_its_server(self, server: Postgres) -> None:
        """It waits and says for what; the service runs once the server does."""
        server.stop()
        with hosting(on_server(server), up=False) as host:
            host.start()
            until(host.head)
            host.wait_for("database", "starting")
            until(lambda: "cannot be reached" in host.log("database"))
            server.start()
            row = host.wait_for("database", "running")
            assert row["restarts"] == 0
            assert PASSWORD not in host.log("database")

    async def test_a_wrong_password(self, server: Postgres) -> None:
        """It is failed at once, with what to do."""
        config = on_server(server).replace(PASSWORD, "wrong-word")
        with hosting(config) as host:
            row = host.wait_for("database", "failed")
            assert "Correct `url`" in row["reason"]
            assert "wrong-word" not in row["reason"] + host.log("database")
