"""The eliza service: answers a line by Weizenbaum's method, from a script in a data file.

It keeps nothing between calls. The conversation comes in with each line and goes out with its
answer, so a line whose worker died is said again to the next incarnation and nothing is missing.
"""

from importlib import resources
from pathlib import Path
from typing import Self

import msgspec

from garrison.ipc import PermanentFailure
from garrison.workers import Plugin, Runtime, Service, idempotent

from .eliza_method import Conversation, respond
from .eliza_script import Script, ScriptError, parse


class Answer(msgspec.Struct, frozen=True):
    """What is said to a line, and the conversation to hand in with the next one."""

    text: str
    conversation: Conversation


class ElizaService(Service):
    """A patient listener."""

    service_type = "eliza"
    capability_description = "Answers a line of conversation by Weizenbaum's method"

    class Config(msgspec.Struct):
        """What `[services.eliza.config]` may say."""

        script: str = ""  # path of another script; empty is the bundled one

    config: Config
    script: Script

    @classmethod
    async def start(cls, runtime: Runtime) -> Self:
        service = cls(runtime)
        service.script = load(service.config.script)
        return service

    @idempotent
    async def respond(self, text: str, conversation: Conversation | None = None) -> Answer:
        """Return the answer to one line; None begins a conversation."""
        return Answer(*respond(self.script, text, conversation or Conversation()))

    @idempotent
    async def greeting(self) -> Answer:
        """Return what is said before the first line."""
        return Answer(self.script.greeting, Conversation())

    async def stop(self) -> None:
        """Do nothing: no state and no connection is held."""


def load(path: str) -> Script:
    """Return the script in a file, or the bundled one where the path is empty.

    Raises:
        PermanentFailure: no start can succeed until someone mends the file.
    """
    bundled = resources.files("garrison.workers.services") / "eliza.toml"
    file = Path(path).expanduser() if path else bundled
    try:
        return parse(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ScriptError) as error:
        raise PermanentFailure(f"the script {file} cannot be used: {error}") from error


plugin = Plugin(name="eliza", services=[ElizaService])
