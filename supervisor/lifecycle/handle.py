"""A worker's process as the engine knows it. Pure."""

import msgspec


class Handle(msgspec.Struct, frozen=True, omit_defaults=True):
    """The engine's own note of a process, by which it finds the process again after an upgrade.

    Others store it and hand it back. `pid` is also shown to people.
    """

    pid: int = 0
    ticks: int = 0  # when the process started, in clock ticks: a pid alone is reused
    log_began: tuple[int, int] | None = None  # inode and size of its log at its start
    node: str = ""  # where it runs; empty: on the supervisor's machine


NO_PROCESS = Handle()
