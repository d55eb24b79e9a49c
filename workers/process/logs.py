"""Python's logging in a worker: each line has time, service and incarnation.

An author may configure logging as in any program. `runtime.logger` and garrison's own loggers still
reach the service's log then: no configuration disables them, none removes their format, and their
lines are not written twice.
"""

import functools
import itertools
import logging
import os
import sys
import time
from typing import Any, TextIO

DATES = "%Y-%m-%dT%H:%M:%S"
OWN = "garrison"  # the name above those of all of garrison's loggers
DEFAULT_OUTPUT = frozenset({"level", "force", "datefmt", "encoding", "errors"})


_known = 0  # names that were looked at; none is ever removed
_not_yet: set[str] = set()  # those that were no loggers then
_handlers: list[logging.Handler] = []  # that write to the service's log
_lines = ""  # their form


class ServiceLogger(logging.Logger):
    """A logger that writes to the service's log, however logging is configured.

    Other handlers of the author's get its records as well.
    """

    # It writes to the service's log; where a plugin is only read, to standard error.
    handler: logging.Handler = logging.lastResort or logging.StreamHandler()

    @property
    def disabled(self) -> bool:
        """Return False: by default `dictConfig` disables all loggers that exist."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def isEnabledFor(self, level: int) -> bool:
        """Return whether a record is written; garrison's own errors always are."""
        own_error = level >= logging.ERROR and self.name.partition(".")[0] == OWN
        return own_error or super().isEnabledFor(level)

    def callHandlers(self, record: logging.LogRecord) -> None:
        """Pass a record to the service's log, and to every handler that writes elsewhere."""
        self.handler.handle(record)
        one: logging.Logger | None = self
        while one is not None:
            for handler in one.handlers:
                if record.levelno >= handler.level and not _writes_to_log(handler):
                    handler.handle(record)
            one = one.parent if one.propagate else None


def _writes_to_log(handler: logging.Handler) -> bool:
    """Return whether a handler writes to this process's standard output or error."""
    if not isinstance(handler, logging.StreamHandler) or isinstance(handler, logging.FileHandler):
        return False
    try:
        return handler.stream.fileno() in {1, 2}
    except (AttributeError, OSError, ValueError):
        return False


def prepare(stream: TextIO | None = None) -> None:
    """Do what does not depend on the service, in the process that workers are forked from.

    Args:
        stream: What will be the service's log; by default standard error.
    """
    logging.Formatter.converter = time.gmtime
    root = logging.getLogger()
    for one in root.handlers[:]:
        root.removeHandler(one)
        one.close()
    root.setLevel(logging.INFO)
    _handlers[:] = [logging.StreamHandler(stream or sys.stderr) for _ in range(2)]
    ServiceLogger.handler = _handlers[0]
    root.addHandler(_handlers[1])
    if not hasattr(logging.basicConfig, "__wrapped__"):
        logging.basicConfig = _with_format()
    take_over_loggers("asyncio")


def install(name: str, generation: int, stream: TextIO | None = None) -> None:
    """Send Python's logging to the service's log.

    Args:
        name: The service's, and that of `runtime.logger`.
        generation: Of the incarnation; it is on each line.
        stream: The service's log; by default standard error.
    """
    global _lines
    _lines = (
        "%(asctime)s.%(msecs)03dZ %(levelname)s"
        f" service={name} generation={generation} pid={os.getpid()}"
        " %(name)s: %(message)s"
    )
    if stream is not None or not _handlers:
        prepare(stream)
    formatter = logging.Formatter(_lines, DATES)
    for handler in _handlers:
        handler.setFormatter(formatter)
    take_over_loggers(name)


def take_over_loggers(name: str) -> None:
    """Take over `runtime.logger`, asyncio's logger, and all that garrison has by now.

    Those that were there at the last time are left alone: in a worker, a look at each one would
    write to its page, which all workers share.
    """
    global _known
    logging.getLogger(name)
    known = logging.Logger.manager.loggerDict
    fresh = itertools.islice(reversed(known), len(known) - _known)  # the latest come first
    for at in [name, *fresh, *_not_yet]:
        one = known.get(at)
        if at not in {name, "asyncio"} and at.partition(".")[0] != OWN:
            continue
        if not isinstance(one, logging.Logger):  # a name that has others below it
            _not_yet.add(at)
        elif not isinstance(one, ServiceLogger):
            one.__dict__.pop("disabled", None)  # the class has it as a property
            one.__class__ = ServiceLogger
    _known = len(known)


def _with_format() -> Any:
    """Return `basicConfig` with the lines' form as default, where it writes to the log."""
    original = logging.basicConfig

    @functools.wraps(original)
    def basic_config(**options: Any) -> None:
        to_log = options.get("stream") in {None, sys.stdout, sys.stderr}
        if to_log and options.keys() - {"stream"} <= DEFAULT_OUTPUT:
            options["format"] = _lines
            options.setdefault("datefmt", DATES)
        original(**options)

    return basic_config
