"""A service that configures Python's logging in ways that programs do."""

import io
import logging
import logging.config
import sys
from typing import Any, ClassVar

from garrison.workers import Plugin, Service

CONFIGURE: dict[str, Any] = {
    "dictConfig": lambda: logging.config.dictConfig({"version": 1}),
    "dictConfig with root": lambda: logging.config.dictConfig(
        {
            "version": 1,
            "formatters": {"bare": {"format": "bare %(message)s"}},
            "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "bare"}},
            "root": {"handlers": ["out"], "level": "DEBUG"},
        }
    ),
    "fileConfig": lambda: logging.config.fileConfig(
        io.StringIO(
            "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n"
            "[logger_root]\nhandlers=\n"
        )
    ),
    "basicConfig": lambda: logging.basicConfig(force=True),
    "basicConfig with level": lambda: logging.basicConfig(force=True, level=10, stream=sys.stdout),
    "basicConfig with format": lambda: logging.basicConfig(force=True, format="%(message)s"),
    "no handlers": lambda: logging.root.handlers.clear(),
}


class LoggerService(Service):
    """Logs after each configuration."""

    service_type = "logger"
    ways: ClassVar[list[str]] = list(CONFIGURE)

    async def configure(self, way: str) -> None:
        """Configure logging in one way, then log a line and an author's own line."""
        CONFIGURE[way]()
        self.runtime.logger.warning("after %s", way)
        logging.getLogger(f"author.{way}").warning("author after %s", way)  # not disabled yet

    async def fail(self) -> None:
        """End by an exception that is written to the log."""
        logging.config.dictConfig({"version": 1})
        logging.disable(logging.CRITICAL)

        async def broken() -> None:
            raise LookupError("the reason")

        self.runtime.spawn(broken())


plugin = Plugin(name="logger", services=[LoggerService])
