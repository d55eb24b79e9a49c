"""What a command wants done to services. The manager carries it out. Pure."""

from dataclasses import dataclass
from typing import TypeAlias

from garrison.supervisor.config.spec import PluginSpec, ServiceSpec

from .order_note import NO_ORDER, OrderNote
from .pausing import PauseNote
from .policy import Event


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply one event to one service."""

    name: str
    event: Event
    reason: str = ""  # recorded as the service's reason afterwards
    note: OrderNote = NO_ORDER  # the order that the event carries out


@dataclass(frozen=True, slots=True)
class Ordered:
    """Note the order that a service was given last, before it is carried out."""

    name: str
    note: OrderNote


@dataclass(frozen=True, slots=True)
class EndFromInside:
    """Note that a service is about to be ended by an order that came from inside it."""

    name: str
    note: OrderNote


@dataclass(frozen=True, slots=True)
class Configure:
    """Run a service by another spec from its next start on."""

    spec: ServiceSpec
    plugin: PluginSpec


@dataclass(frozen=True, slots=True)
class Remove:
    """Take a service without a process out of the host: the config has it no longer."""

    name: str


@dataclass(frozen=True, slots=True)
class RestartBound:
    """Restart the running services that are bound to this one."""

    name: str


@dataclass(frozen=True, slots=True)
class Reload:
    """Start a second incarnation by a spec; it takes the place of the running one once it runs."""

    spec: ServiceSpec
    plugin: PluginSpec
    note: OrderNote


@dataclass(frozen=True, slots=True)
class Pause:
    """Have a service take nothing from now on, or take calls and messages again."""

    name: str
    note: PauseNote
    paused: bool


@dataclass(frozen=True, slots=True)
class Attach:
    """Run the next incarnation of a service on the terminal of a process."""

    name: str
    pid: int


@dataclass(frozen=True, slots=True)
class InjectFault:
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
