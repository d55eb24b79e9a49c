"""What a command wants done to services. The manager carries it out. Pure."""

from typing import TypeAlias

import msgspec

from garrison.supervisor.config.spec import PluginSpec, ServiceSpec

from .order_note import NO_ORDER, OrderNote
from .pausing import PauseNote
from .policy import Event


class Apply(msgspec.Struct, frozen=True):
    """Apply one event to one service."""

    name: str
    event: Event
    reason: str = ""  # recorded as the service's reason afterwards
    note: OrderNote = NO_ORDER  # the order that the event carries out


class Ordered(msgspec.Struct, frozen=True):
    """Note the order that a service was given last, before it is carried out."""

    name: str
    note: OrderNote


class EndFromInside(msgspec.Struct, frozen=True):
    """Note that a service is about to be ended by an order that came from inside it."""

    name: str
    note: OrderNote


class Configure(msgspec.Struct, frozen=True):
    """Run a service by another spec from its next start on."""

    spec: ServiceSpec
    plugin: PluginSpec


class Remove(msgspec.Struct, frozen=True):
    """Take a service without a process out of the host: the config has it no longer."""

    name: str


class RestartBound(msgspec.Struct, frozen=True):
    """Restart the running services that are bound to this one."""

    name: str


class Reload(msgspec.Struct, frozen=True):
    """Start a second incarnation by a spec; it takes the place of the running one once it runs."""

    spec: ServiceSpec
    plugin: PluginSpec
    note: OrderNote


class Pause(msgspec.Struct, frozen=True):
    """Have a service take nothing from now on, or take calls and messages again."""

    name: str
    note: PauseNote
    paused: bool


class Attach(msgspec.Struct, frozen=True):
    """Run the next incarnation of a service on the terminal of a process."""

    name: str
    pid: int


class InjectFault(msgspec.Struct, frozen=True):
    """Record a fault for chaos testing, and send its signal if it has one."""

    name: str
    kind: str
    signal: int | None


Action: TypeAlias = (
    Apply
    | Ordered
    | EndFromInside
    | Configure
    | Remove
    | RestartBound
    | Reload
    | Pause
    | Attach
    | InjectFault
)
