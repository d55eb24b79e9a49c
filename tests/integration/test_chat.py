"""`garrison chat` with real workers: kills during a conversation, notifications, errors."""

import contextlib
import json
import os
import pty
import re
import select
import signal
import termios
from collections.abc import Iterator
from typing import Any, Self

import pytest
from tests.support.commands import ROOT, ForkedProcess
from tests.support.following import Following
from tests.support.host import Host, Hosting, hosting
from tests.support.waiting import PATIENCE, until

CHAT = """
[plugins.chat]
[plugins.agent]
[plugins.eliza]
[plugins.notification]
[defaults]
intensity = 0
watchdog = 30
"""


class Chatting(Following):
    """A conversation through a pipe."""

    def __init__(self, host: Host, *words: str) -> None:
        super().__init__(host, "chat", *words)

    def enter(self, line: str) -> None:
        """Type a line."""
        self._in.write(f"{line}\n".encode())
        self._in.flush()

    def replies(self, number: int) -> list[str]:
        """Wait for a number of replies and return them."""
        text = self.until(rf"(?:^Eliza: .*\n(?:[^:]*\n)*?){{{number}}}")
        return re.findall(r"^Eliza: (.*)$", text, re.MULTILINE)

    def leave(self) -> int:
        """End the input, as Ctrl-D does; return the exit code."""
        self._in.close()
        return self.process.wait(PATIENCE)


LINES = [
    "Men are all alike.",
    "They are always bugging us about something.",
    "Well, my boyfriend made me come here.",
    "He says I am depressed much of the time.",
    "I need some help, that much seems certain.",
    "My mother takes care of me.",
    "My father.",
    "Hm.",
    "Hm.",
]
VICTIMS = ("chat", "agent", "eliza")


@pytest.fixture(scope="module")
def running() -> Iterator[Host]:
    """Run the bundled services."""
    with hosting(CHAT) as host:
        yield host


@pytest.fixture(scope="module")
def undisturbed(running: Host) -> list[str]:
    """Return the replies of a conversation without kills."""
    with Chatting(running) as quiet:
        replies = quiet.replies(1)
        for n, line in enumerate(LINES, start=2):
            quiet.enter(line)
            replies = quiet.replies(n)
        assert quiet.leave() == 0
    return replies


def test_a_conversation_continues_while_its_workers_are_killed(
    running: Host, undisturbed: list[str]
) -> None:
    """Chat, agent and eliza are killed between two lines and during one. Each line has one reply,
    the same as in a conversation without kills."""
    with Chatting(running) as loud:
        loud.replies(1)
        for n, line in enumerate(LINES, start=2):
            victim = VICTIMS[n % 3]
            if n % 2:  # between two lines
                running.until_reborn(victim, running.kill(victim))
                loud.enter(line)
            else:  # during one
                pid = running.status(victim)["pid"]
                loud.enter(line)
                os.kill(pid, signal.SIGKILL)
            loud.replies(n)
        assert loud.leave() == 0
        assert re.findall(r"^Eliza: (.*)$", loud.rest(), re.MULTILINE) == undisturbed


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_while_the_model_is_busy_loses_no_line_and_no_memory(
    running: Host, undisturbed: list[str], victim: str
) -> None:
    """The agent has the line and waits for eliza. Whichever process is killed then, the answer
    uses the whole conversation, and it is shown once."""
    with Chatting(running) as talk:
        for n, line in enumerate(LINES[:-1], start=2):
            talk.enter(line)
            talk.replies(n)
        eliza = running.kill("eliza", signal.SIGSTOP)
        try:
            talk.enter(LINES[-1])
            until(lambda: running.status("eliza")["state"] and running.status("agent")["in_flight"])
            pid = eliza if victim == "eliza" else running.kill(victim)
            if victim == "eliza":
                os.kill(eliza, signal.SIGKILL)
            running.until_reborn(victim, pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(eliza, signal.SIGCONT)
        assert talk.replies(len(LINES) + 1) == undisturbed
        assert talk.leave() == 0
        assert re.findall(r"^Eliza: (.*)$", talk.rest(), re.MULTILINE) == undisturbed


def lines_of(chat: Chatting, number: int) -> list[dict[str, Any]]:
    """Wait for a number of lines of `--json` output and return their data."""
    text = chat.until(rf"(?:^\{{.*\n){{{number}}}")
    return [json.loads(line)["data"] for line in text.splitlines()]


def test_a_notification_is_shown_between_the_lines(running: Host) -> None:
    """When it arrives, also after a restart of chat; answers are shown once."""
    with Chatting(running, "--json") as talk:
        room = lines_of(talk, 1)[0]["conversation"]["room"]
        assert notify(running, "one", room) == ["chat"]
        assert lines_of(talk, 2)[1]["text"] == "one"
        talk.enter("I am sad")
        assert "sad" in lines_of(talk, 3)[2]["text"]
        running.until_reborn("chat", running.kill("chat"))
        assert notify(running, "two", room) == ["chat"]
        lines = lines_of(talk, 4)
        assert lines[3]["text"] == "two"
        assert set(lines[3]) <= set(lines[2])
        talk.enter("I am sad")
        assert "sad" in lines_of(talk, 5)[4]["text"]
        assert talk.leave() == 0
        assert len(lines_of(talk, 5)) == 5


def notify(host: Host, text: str, room: str) -> list[str]:
    """Send a notification to a room of chat; return the platforms that accepted it."""
    ran = host.run("call", "notification", "notify", json.dumps([text, "chat", room]), json=True)
    accepted: list[str] = ran.data
    return accepted


def test_a_restart_of_chat_waits_for_no_listener(running: Host) -> None:
    """A listening terminal does not use up the grace of 10 s."""
    with Chatting(running) as talk:
        talk.replies(1)
        talk.enter("I am sad")
        talk.replies(2)
        running.ask("restart", "chat", wait=5.0)
        talk.enter("I am sad")
        talk.replies(3)
        assert talk.leave() == 0


def test_a_platform_that_is_not_configured_is_an_error(running: Host) -> None:
    """The error names it."""
    ran = running.run("call", "notification", "notify", '["fire", "discord", "1"]')
    assert ran.code == 1
    assert "discord.send_message was not run: discord is not configured" in ran.err


ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """`garrison chat` at a pseudo-terminal."""

    def __init__(self, host: Host) -> None:
        self._fd, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        environ = {**host.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
        words = ("--home", str(host.home), "chat")
        self.process = ForkedProcess(words, ROOT, environ, (theirs, theirs, theirs))
        os.close(theirs)
        self._raw = b""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self._fd)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._fd, text.encode())

    def until(self, part: str) -> str:
        """Wait for a text; return the output up to it, without spaces.

        The terminal often shows a space by a cursor movement.
        """
        wanted, before = "".join(part.split()), self._seen
        while (at := self._shown.find(wanted, before)) < 0:
            assert select.select([self._fd], [], [], PATIENCE)[0], (
                f"no {part!r} came; {self._shown[before:]!r}"
            )
            self._raw += os.read(self._fd, 65_536)
        self._seen = at + len(wanted)
        return self._shown[before : self._seen]

    @property
    def _shown(self) -> str:
        return "".join(ESCAPES.sub("", self._raw.decode(errors="replace")).split())


def test_a_notification_does_not_break_the_line_that_is_being_typed(running: Host) -> None:
    """It is shown above the prompt, which appears again with the typed text."""
    with Terminal(running) as terminal:
        terminal.until("you: ")
        terminal.type("I am glad\r")
        terminal.until("Eliza: ")
        terminal.until("you: ")
        terminal.type("I am s")
        terminal.until("I am s")
        room = newest_room(running)
        assert notify(running, "a fire\x1b[2J", room) == ["chat"]
        shown = terminal.until("you: I am s")
        assert "Eliza:afire[2J" in shown
        assert shown.index("afire") < shown.index("you:Iams")
        terminal.type("ad\r")
        terminal.until("you are sad")
        terminal.until("you: ")
        terminal.type("\x04")
        assert terminal.process.wait(PATIENCE) == 0


def newest_room(host: Host) -> str:
    """Return the room of the newest message in the agent's memory."""
    ran = host.run("call", "agent", "get_memories", '{"count": 1}', json=True)
    room: str = ran.data[0]["room_id"]
    return room


def test_a_stopped_service_is_an_error_and_the_conversation_stays(running: Host) -> None:
    """At a terminal the user can continue when it runs again."""
    with Terminal(running) as terminal:
        terminal.until("you: ")
        running.ask("stop", "agent")
        try:
            terminal.type("I am sad\r")
            terminal.until("agent is stopped")
        finally:
            running.ask("start", "agent")
        terminal.until("you: ")
        terminal.type("I am sad\r")
        terminal.until("you are sad")


def test_chat_reports_a_missing_agent_or_model(host: Hosting) -> None:
    """Without an agent the error names the plugin to add; without a model, the model."""
    one = host("[plugins.chat]\n")
    ran = one.run("chat", input="hello\n")
    assert ran.code == 1
    assert "[plugins.agent]" in ran.err
    one.write("config.toml", "[plugins.chat]\n[plugins.agent]\n")
    one.restart()
    ran = one.run("chat", input="hello\n")
    assert ran.code == 1
    assert ran.err.startswith("error: no model TEXT_LARGE")


def test_the_former_key_answerer_is_rejected(host: Hosting) -> None:
    """Chat has no config keys."""
    config = '[plugins.chat]\n[services.chat.config]\nanswerer = "eliza"\n'
    ran = host(config, up=False).run("check")
    assert ran.code == 5
    assert "answerer" in ran.out + ran.err


def test_chat_ends_with_its_supervisor(host: Hosting) -> None:
    """The next line reports it: exit code 7 and no traceback."""
    one = host(CHAT)
    with Chatting(one) as chatting:
        chatting.replies(1)
        assert one.end() == 0
        chatting.enter("are you there?")
        chatting.until("no supervisor")
        assert chatting.leave() == 7
        assert "Traceback" not in chatting.rest()
