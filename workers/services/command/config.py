"""What a plain command is run with, as the config says; and how its readiness is written. Pure."""

import msgspec


class Config(msgspec.Struct):
    """The keys of a section with a `command`. The supervisor has checked them.

    Durations are seconds.
    """

    command: list[str] = []  # the program, then its arguments
    ready: str = ""  # "line: TEXT", "port: NUMBER", "notify"; empty: it has run for a moment
    stop_signal: str = "SIGTERM"
    health_command: list[str] = []
    start_timeout: float = 60.0
    watchdog: float = 10.0  # 0: none

    @property
    def ready_kind(self) -> str:
        """Return "line", "port", "notify", or "" without a condition."""
        return self.ready.partition(":")[0]

    @property
    def ready_value(self) -> str:
        """Return the text of the line, or the number of the port."""
        return self.ready.partition(":")[2].strip()
