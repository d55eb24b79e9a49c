"""Logs what a server writes to its standard error, bounded in width and in number."""

import logging
import time

WIDTH = 500  # characters of a line
BURST, PER_SECOND = 100.0, 10.0  # lines
KEPT = 5  # last lines, for the reason of an end


class LineLog:
    """The lines of one server.

    Args:
        log: The service's.
        server: NAME of the server.
    """

    def __init__(self, log: logging.Logger, server: str) -> None:
        self._log, self._server = log, server
        self._left, self._at = BURST, time.monotonic()
        self._left_out = 0
        self.last: list[str] = []

    def add(self, what: str, line: bytes) -> None:
        """Log a line, unless there are too many.

        Args:
            what: Where it was written: `stderr` or `stdout`.
            line: It, in UTF-8 or any other bytes.
        """
        text = line[: WIDTH * 4].decode(errors="replace").strip()[:WIDTH]
        text = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)
        if not text:
            return
        if what == "stderr":
            self.last = [*self.last[1 - KEPT :], text]
        now = time.monotonic()
        self._left = min(self._left + (now - self._at) * PER_SECOND, BURST)
        self._at = now
        if self._left < 1:
            self._left_out += 1
            return
        self._left -= 1
        if self._left_out:
            self._log.warning("mcp.lines_left_out server=%s count=%d", self._server, self._left_out)
            self._left_out = 0
        self._log.info("mcp.%s server=%s line=%s", what, self._server, text)
