"""A chat platform in a process of its own, which keeps count: `python -m … SOCKET`.

It speaks lines of JSON over a Unix socket. A request is `{"n": 1, "do": "send", …}`, its answer
`{"n": 1, "value": …}` or `{"n": 1, "error": KIND, "text": …}`. What is said in its channels goes to
every bot that is logged in as `{"heard": {…}}`. Nothing here knows of garrison: what it has in its
record is what a person would have read. Times are seconds of the monotonic clock.

Bots use `login`, `channels`, `send`, `lookup`, `history`, `typing`. Tests use `say`, `record`,
`set` and `fault` beside them; `tests/support/platform_client.py` is their side.
"""

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

MOST = 200_000  # messages of all channels; a further one is refused
LINE = 1024 * 1024  # bytes of a request
BACKLOG = 16 * 1024 * 1024  # bytes to a bot that does not read; then it is disconnected


class Refused(Exception):
    """A request that is answered with an error: its kind, and a text."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(kind, text)
        self.kind, self.text = kind, text


class Dropped(Exception):
    """The connection ends without an answer."""


@dataclass
class Message:
    """One message in a channel; `position` is its place there, from 1."""

    id: str
    channel: str
    position: int
    author: str
    text: str
    at: float
    bot: bool = False
    nonce: str = ""
    reply_to: str = ""
    attachments: list[Any] = field(default_factory=list)


@dataclass
class Fault:
    """What happens to the next requests of a kind.

    `lose`: the connection ends before it is done; `drop`: after. `refuse` and `fail`: an error of
    this kind, not done. `delay`: done later, also if the bot is gone by then. `stall`: done at
    once, answered later.
    """

    of: str
    kind: str
    left: int
    seconds: float


@dataclass
class Settings:
    """What the platform can do, and how slow it is.

    Args:
        dedupe: A nonce that was sent before in the channel is the same message.
        lookup: A message can be found by its nonce.
        latency: Longest time to a message's arrival, and again to its answer; drawn for each.
        longest: Characters of a text; a longer one is refused. 0: no limit.
    """

    dedupe: bool = True
    lookup: bool = True
    latency: float = 0.0
    longest: int = 0


class Platform:
    """The channels, and who listens."""

    def __init__(self, seed: int = 0) -> None:
        self.settings = Settings()
        self.channels: dict[str, list[Message]] = {}
        self.messages: list[Message] = []  # of all channels, in order of arrival
        self.repeated = 0  # sends that were the same message again
        self.typed = 0
        self.delayed = 0
        self.faults: list[Fault] = []
        self.bots: set[asyncio.StreamWriter] = set()
        self._nonces: dict[tuple[str, str], Message] = {}
        self._drawn = random.Random(seed)

    # --- what bots do -----------------------------------------------------------------------

    async def send(self, channel: str, text: str, **more: Any) -> dict[str, Any]:
        """Add a bot's message; return its id and position."""
        await self._wait()
        longest = self.settings.longest
        if longest and len(text) > longest:
            raise Refused("refused", f"{len(text)} characters; the limit is {longest}")
        nonce = more.get("nonce", "")
        if nonce and self.settings.dedupe and (before := self._nonces.get((channel, nonce))):
            self.repeated += 1
            sent = before
        else:
            sent = self._add(channel, "bot", text, bot=True, **more)
            if nonce:
                self._nonces[channel, nonce] = sent
        await self._wait()
        return {"id": sent.id, "position": sent.position}

    async def lookup(self, channel: str, nonce: str) -> str | None:
        """Return the id of the message with a nonce; None if there is none."""
        if not self.settings.lookup:
            raise Refused("unknown", "this platform cannot say")
        found = self._nonces.get((channel, nonce))
        return found.id if found else None

    async def history(self, channel: str, after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Return the messages after a position, oldest first."""
        return [asdict(one) for one in self.channels.get(channel, [])[after : after + limit]]

    async def list_channels(self) -> list[str]:
        """Return the channels that there are."""
        return list(self.channels)

    async def typing(self, channel: str) -> None:
        """Count it."""
        self.typed += 1

    # --- what tests do ----------------------------------------------------------------------

    async def say(self, channel: str, text: str, author: str = "ada", **more: Any) -> Any:
        """Add a person's message; return its id and position."""
        said = self._add(channel, author, text, **more)
        return {"id": said.id, "position": said.position}

    async def record(self, after: int = 0) -> dict[str, Any]:
        """Return all messages from a place in the record on."""
        counts = {"repeated": self.repeated, "typed": self.typed, "bots": len(self.bots)}
        return {"messages": [asdict(one) for one in self.messages[after:]], **counts}

    async def set(self, **settings: Any) -> None:
        """Change what the platform can do."""
        self.settings = Settings(**{**asdict(self.settings), **settings})

    async def fault(self, of: str, kind: str, times: int = 1, seconds: float = 0.0) -> None:
        """Have a fault happen to the next requests of a kind."""
        self.faults.append(Fault(of, kind, times, seconds))

    async def under_way(self) -> int:
        """Return how many requests a fault has delayed that are not done yet."""
        return self.delayed

    async def end_faults(self) -> None:
        """Have none of them happen."""
        self.faults.clear()

    # --- inside -----------------------------------------------------------------------------

    def _add(self, channel: str, author: str, text: str, **more: Any) -> Message:
        if len(self.messages) >= MOST:
            raise Refused("full", f"{MOST} messages are in the record already")
        there = self.channels.setdefault(channel, [])
        more = {"id": f"m{len(self.messages) + 1}", **more}
        message = Message(
            channel=channel,
            position=len(there) + 1,
            author=author,
            text=text,
            at=time.monotonic(),
            **more,
        )
        there.append(message)
        self.messages.append(message)
        for writer in list(self.bots):
            self._write(writer, {"heard": asdict(message)})
        return message

    def _write(self, writer: asyncio.StreamWriter, value: object) -> None:
        if writer.transport.get_write_buffer_size() > BACKLOG:
            self.bots.discard(writer)
            writer.transport.abort()
            return
        writer.write(json.dumps(value).encode() + b"\n")

    async def _wait(self) -> None:
        if self.settings.latency:
            await asyncio.sleep(self._drawn.uniform(0, self.settings.latency))

    def _fault_of(self, do: str) -> Fault | None:
        for fault in self.faults:
            if fault.of == do:
                fault.left -= 1
                if not fault.left:
                    self.faults.remove(fault)
                return fault
        return None

    async def _do(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> Any:
        does = {
            "channels": self.list_channels,
            **{
                name: getattr(self, name)
                for name in (
                    *("send", "lookup", "history", "typing"),
                    *("say", "record", "set", "fault", "end_faults", "under_way"),
                )
            },
        }
        do = request.pop("do")
        if do == "login":
            self.bots.add(writer)
            return None
        fault = self._fault_of(do)
        kind, seconds = (fault.kind, fault.seconds) if fault else ("", 0.0)
        match kind:
            case "lose":
                raise Dropped
            case "refuse" | "fail":
                raise Refused("refused" if kind == "refuse" else "failed", "by a fault")
            case "delay":
                self.delayed += 1
                await asyncio.sleep(seconds)
        value = await does[do](**request)
        match kind:
            case "delay":
                self.delayed -= 1
            case "drop":
                raise Dropped
            case "stall":
                await asyncio.sleep(seconds)
        return value

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        number = request.pop("n")
        try:
            answer = {"n": number, "value": await self._do(request, writer)}
        except Refused as error:
            answer = {"n": number, "error": error.kind, "text": error.text}
        except Dropped:
            writer.transport.abort()
            return
        self._write(writer, answer)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. A request that is being done is done also if its bot is gone."""
        doing: set[asyncio.Task[None]] = set()
        try:
            while line := await reader.readline():
                task = asyncio.create_task(self._answer(json.loads(line), writer))
                doing.add(task)
                task.add_done_callback(doing.discard)
        except ConnectionError:
            pass  # it was killed
        finally:
            self.bots.discard(writer)
            await asyncio.gather(*doing)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def main(path: str, seed: int) -> None:
    """Serve until standard input ends: the platform does not outlive its test."""
    platform = Platform(seed)
    server = await asyncio.start_unix_server(platform.serve, path, limit=LINE)
    print("listening", flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # whatever connections are open


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
