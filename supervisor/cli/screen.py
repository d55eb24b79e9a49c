"""The whole terminal for one program: raw keys, drawing, resizes, and its return at any end.

Restores the terminal at the end of the block, and while the process is suspended by Ctrl-Z. Ctrl-C
raises KeyboardInterrupt as usual, SIGTERM and SIGHUP raise SystemExit. Durations are seconds.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final, Self

ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, without cursor and wrapping
LEAVE: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
KEYS: Final = {
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
}
SEQUENCE: Final = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|O.)")
ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
OWN: Final = (*ENDING, signal.SIGTSTP, signal.SIGCONT, signal.SIGWINCH)


def is_terminal() -> bool:
    """Return True if there is a terminal that can be read and drawn on."""
    with contextlib.suppress(OSError, ValueError):
        usable = os.environ.get("TERM", "") not in {"", "dumb"}
        return usable and os.isatty(0) and os.isatty(1)
    return False


def next_key(typed: str) -> tuple[str | None, str]:
    """Return the first key of what was typed, and the rest. Unknown sequences are no key."""
    while typed:
        if (sequence := SEQUENCE.match(typed)) is None:
            return KEYS.get(typed[0], typed[0]), typed[1:]
        typed = typed[sequence.end() :]
        if (key := KEYS.get(sequence[0])) is not None:
            return key, typed
    return None, typed


class Screen:
    """The terminal of standard input and output, while the block lasts."""

    def __init__(self) -> None:
        self._modes = termios.tcgetattr(0)
        self._former: dict[int, Any] = {}
        self._wake_read, self._wake_write = -1, -1
        self._is_shown = False
        self._typed = ""  # and not taken yet

    def __enter__(self) -> Self:
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._former_wakeup = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in OWN:
            self._former[number] = signal.signal(number, self._on_signal)
        self.show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.hide()
        for number, former in self._former.items():
            signal.signal(number, former)
        signal.set_wakeup_fd(self._former_wakeup)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def show(self) -> None:
        """Take the terminal."""
        with contextlib.suppress(termios.error):
            tty.setcbreak(0, termios.TCSADRAIN)
        self._is_shown = True
        self._write(ENTER)

    def hide(self) -> None:
        """Return the terminal as it was."""
        if self._is_shown:
            self._is_shown = False
            self._write(LEAVE)
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(0, termios.TCSADRAIN, self._modes)

    @property
    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        try:
            columns, lines = os.get_terminal_size(1)
        except OSError:
            columns = lines = 0
        usual = shutil.get_terminal_size()
        return columns or usual.columns, lines or usual.lines

    def draw(self, lines: Sequence[str]) -> None:
        """Replace what is shown."""
        body = "\r\n".join(f"{line}\x1b[K" for line in lines)
        self._write(f"\x1b[H{body}\x1b[J")

    def wake(self) -> None:
        """Have `key` return, from any thread."""
        with contextlib.suppress(BlockingIOError, OSError):  # it is awake, or has ended
            os.write(self._wake_write, b"\0")

    def key(self, seconds: float) -> str | None:
        """Return the next key; None once the time is over, the size has changed, or after `wake`.

        Raises:
            EOFError: The terminal is gone.
        """
        while (key := self._take()) is None:
            ready, _, _ = select.select([0, self._wake_read], [], [], max(seconds, 0.0))
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            if 0 not in ready:
                return None
            try:
                typed = os.read(0, 1024)
            except OSError as error:
                raise EOFError from error
            if not typed:
                raise EOFError
            self._typed += typed.decode("utf-8", "replace")
        return key

    def _take(self) -> str | None:
        """Return the next key that was typed; None if there is none."""
        key, self._typed = next_key(self._typed)
        return key

    def _write(self, text: str) -> None:
        data = memoryview(text.encode(getattr(sys.stdout, "encoding", None) or "utf-8", "replace"))
        while data:
            try:
                data = data[os.write(1, data) :]
            except BlockingIOError:
                select.select([], [1], [])
            except OSError:  # the terminal is gone: reading says so
                return

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number in ENDING:
            raise SystemExit(128 + number)
        if number == signal.SIGTSTP:
            was_shown = self._is_shown  # not while another program has the terminal
            self.hide()
            os.kill(os.getpid(), signal.SIGSTOP)
            if was_shown:
                self.show()
