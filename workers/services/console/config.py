"""`[services.console.config]`: where the console listens, and what it allows."""

from typing import Annotated

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=0, le=65_535)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]
Seconds = Annotated[float, Meta(ge=60.0, le=2_592_000.0)]


class ConsoleConfig(Struct, frozen=True, kw_only=True):
    """The keys of the console.

    Attributes:
        port: Port on `host`; 0 is any free one.
        host: An address of this machine's loopback.
        socket: Path of a Unix socket, relative to the service's data folder; instead of a port.
        readonly: Refuse every action.
        names: Further names by which browsers may address it, behind a proxy.
        metrics_token: NAME of the secret that `/metrics` requires; empty: there is no `/metrics`.
        session: Seconds that a login holds.
        history_hours: Hours of history at one point each 30 s.
        history_days: Days of history at one point each 5 min.
    """

    port: Port = 8420
    host: Name = "127.0.0.1"
    socket: Annotated[str, Meta(max_length=100)] = ""
    readonly: bool = False
    names: Annotated[tuple[Name, ...], Meta(max_length=16)] = ()
    metrics_token: Annotated[str, Meta(max_length=100)] = ""
    session: Seconds = 43_200.0
    history_hours: Annotated[int, Meta(ge=1, le=72)] = 24
    history_days: Annotated[int, Meta(ge=1, le=31)] = 7
