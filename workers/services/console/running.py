"""The running console: puts its parts together, and takes them apart in order."""

import asyncio
import contextlib
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from garrison.ipc import SupervisorGone
from garrison.ipc.verb_commands import VerbCommands
from garrison.workers import Runtime

from .app import Console
from .config import ConsoleConfig
from .history.recorder import History
from .history.summing import Rates
from .login import Login
from .metrics import Metrics
from .pages.all_pages import PAGES
from .picture import GONE, OWN, Pictures, SupervisorSilent
from .rates import CallRates
from .records.records import Records
from .rendering import TEMPLATES
from .security import Security
from .server import STOP_S, Server, address_of, listen, until_ended
from .sessions import Sessions
from .streams import Streams
from .talk.talks import Talks
from .visit import Tools, home_of

STATUS_S, ENTER_S = 3.0, 5.0
ANNOUNCE_S = 0.5  # between looks whether there is another supervisor
LOOK_S = 0.2  # between looks whether the supervisor is still there
KEPT = ("PATH", "HOME", "USER", "LANG", "TZ", "VIRTUAL_ENV")  # of the environment, for verbs


class Running:
    """The console from its start to its stop.

    Args:
        runtime: The service's.
        config: The service's.
    """

    def __init__(self, runtime: Runtime, config: ConsoleConfig) -> None:
        self._runtime, self._config = runtime, config
        self._pictures, self._streams = Pictures(self._status), Streams()
        self.talks = Talks(runtime)
        self._sessions = Sessions(runtime.data_folder, config.session)
        self._rates = CallRates(self._counters)
        self._history = History(
            runtime.data_folder / "history", self._look, config.history_hours, config.history_days
        )
        self._commands: VerbCommands | None = None
        navigation = [(page.path, page.title, page.needs) for page in PAGES if page.title]
        self._tools = Tools(
            runtime=runtime,
            commands=self._verbs,
            pictures=self._pictures,
            templates=TEMPLATES,
            streams=self._streams,
            history=self._history,
            rates=self._rates,
            navigation=navigation,
            readonly=config.readonly,
            records=Records(runtime),
            talks=self.talks,
            holds=self._sessions.holds,
        )
        self.address = ""
        self._server: Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen. Raises as `listen`."""
        await self.talks.start()
        listening = listen(self._config, self._runtime.data_folder)
        self.address = address_of(listening)
        length = self._config.session
        # A port of its own, since browsers share cookies between the ports of a machine
        place = self.address.rpartition(":")[2] if self._config.socket == "" else "socket"
        login = Login(self._sessions, self._enter, f"garrison-{place}", length)
        console = Console(self._tools, PAGES, login.session_of)
        token = str(self._runtime.get_setting(self._config.metrics_token, "") or "")
        metrics = Metrics(token if self._config.metrics_token else "", self._verbs)
        application = console.application(*login.routes(console.outside), metrics.route())
        self._server = Server(Security(application, self._config.names), listening)
        self._serving = self._runtime.spawn(self._server.run(), "console", True)
        self._runtime.spawn(self._announce(), "announce", True)
        self._runtime.spawn(self._history.run(), "history", True)
        self._runtime.logger.info("console.listening address=%s", self.address)

    async def stop(self) -> None:
        """End streams, then the server, then what pages have started."""
        await self._streams.close()
        if self._server is not None and self._serving is not None:
            self._server.stop()
            await until_ended(self._serving, STOP_S + 1.0)
        await self._pictures.close()
        await self._tools.records.close()
        if self._commands is not None:
            await self._commands.close()
        if self.address.startswith("unix:"):
            Path(self.address.removeprefix("unix:")).unlink(missing_ok=True)  # noqa: ASYNC240

    async def _status(self, viewer: int) -> Mapping[str, Any]:
        """Return the data of `status`, for one viewer."""
        behalf = os.geteuid() if viewer == OWN else viewer
        data: dict[str, Any] = await self._order("status", STATUS_S, behalf=behalf)
        return data

    async def _counters(self) -> Any:
        return await self._order("counters", STATUS_S)

    async def _look(self) -> tuple[Mapping[str, Mapping[str, Any]], Rates]:
        """Return what a point of the history is made of."""
        picture = await self._pictures.now()
        if picture.gone:
            raise SupervisorGone(home_of(self._runtime), GONE)
        rates = await self._rates.now()
        return picture.services, {
            name: (one.in_s, one.p50_s, one.p99_s) for name, one in rates.items()
        }

    async def _enter(self, **options: Any) -> Mapping[str, Any]:
        data: dict[str, Any] = await self._order("console_enter", ENTER_S, **options)
        return data

    async def _order(self, verb: str, timeout: float, **options: Any) -> Any:
        """Give the supervisor an order of the console's own; without one, fail at once.

        With one that does not answer, fail after the time: it cannot say that this is over.
        """
        client, until = self._runtime.client, time.monotonic() + timeout
        asking = asyncio.ensure_future(client.order(verb, timeout=timeout, **options))
        try:
            while not asking.done():
                if client.is_alone:
                    raise SupervisorGone(home_of(self._runtime), GONE)
                if time.monotonic() >= until:
                    raise SupervisorSilent(home_of(self._runtime))
                await asyncio.wait({asking}, timeout=LOOK_S)
            return asking.result()
        finally:
            asking.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await asking

    async def _announce(self) -> None:
        """Say where the console listens, to each supervisor."""
        client, announced = self._runtime.client, ""
        while True:
            boot = client.boot
            if boot != announced:
                with contextlib.suppress(SupervisorGone):
                    await self._order("console_listens", ENTER_S, address=self.address)
                    announced = boot
            await asyncio.sleep(ANNOUNCE_S)

    async def _verbs(self) -> VerbCommands:
        """Return what runs verbs; the supervisor says in which home."""
        if self._commands is None:
            picture = await self._pictures.now(OWN)
            home = Path(home_of(self._runtime))
            paths = [Path(one) for one in picture.supervisor.get("config_paths") or ()]
            environ = {key: os.environ[key] for key in KEPT if key in os.environ}
            self._commands = self._commands or VerbCommands(home, paths, environ)
        return self._commands
