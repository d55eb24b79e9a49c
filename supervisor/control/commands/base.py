"""What commands have in common: their registration, their view of the host, and refusals.

A command is a generator. It yields a bool while it waits (True: only for others), or an action for
the manager to perform; it is resumed whenever something may have changed. Its return value is the
data of the answer.
"""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace as replaced
from typing import Any, TypeAlias, TypeVar

import msgspec

from garrison.ipc.messages import Order, Token
from garrison.ipc.system import process_tree
from garrison.supervisor.config.host_spec import HostSpec
from garrison.supervisor.config.load import Config
from garrison.supervisor.control.consoles import Consoles
from garrison.supervisor.control.stack_requests import StackRequests
from garrison.supervisor.control.status import StatusReport
from garrison.supervisor.counters import Counters
from garrison.supervisor.crashes.store import CrashStore
from garrison.supervisor.helpers import HelperProcesses
from garrison.supervisor.holding import HeldProcesses
from garrison.supervisor.lifecycle.actions import Action
from garrison.supervisor.lifecycle.order_note import OPERATOR, OrderNote
from garrison.supervisor.lifecycle.pausing import PauseNote
from garrison.supervisor.lifecycle.pending import host_differences
from garrison.supervisor.lifecycle.services import Service, ServiceTable
from garrison.supervisor.logs.events import EventLog
from garrison.supervisor.places import Places
from garrison.supervisor.plugins import PluginRegistry
from garrison.supervisor.state.accepted_store import AcceptedStore
from garrison.supervisor.state.forgotten import ForgottenStore
from garrison.supervisor.state.renames import RenameStore
from garrison.supervisor.tasks import Steps

NAMES_MOST = 1000  # in one order, and characters of a name: matching takes time of the loop
WHY_MOST = 200  # characters of the reason that is given with an order
CHAIN_MOST = 16  # services that an order remembers as those that led to it

T = TypeVar("T")


class Refusal(Exception):
    """A command that was not, or not wholly, carried out.

    Args:
        code: The kind of error, which the command line's exit code depends on.
        text: The error in words.
        data: The data of the answer.
    """

    def __init__(self, code: str, text: str, data: Any = None) -> None:
        self.code, self.data = code, data
        super().__init__(text)


class AnswerNow(msgspec.Struct, frozen=True):
    """Yielded by a command that must not be waited for: its answer, before it is finished."""

    data: Any


class GoesOn(msgspec.Struct, frozen=True):
    """Yielded by a command that has more to do at once, and lets others have their turn first
    where its own has lasted."""


GOES_ON = GoesOn()
Command: TypeAlias = Generator[bool | Action | AnswerNow | GoesOn, None, Any]


class PersonStores(msgspec.Struct, frozen=True):
    """What the supervisor itself keeps of persons."""

    tombstones: ForgottenStore
    crashes: CrashStore


class CommandContext(msgspec.Struct, frozen=True):
    """What a command may look at and call. Services are changed by actions only."""

    host: HostSpec
    boot: str
    environ: Mapping[str, str]
    services: ServiceTable
    plugins: PluginRegistry
    status: StatusReport
    log: EventLog
    is_stopping: Callable[[], bool]
    until_crashes_written: Callable[[], Steps]
    next_order: Callable[[], int]
    record_order: Callable[[str, OrderNote], None]
    record_pause: Callable[[str, PauseNote | None], None]
    accepted: AcceptedStore
    follow: Callable[[Token, Order, frozenset[str]], None]
    stop_host: Callable[[OrderNote], None]
    check_successor: Callable[[str, Config], Generator[bool, None, str]]
    write_snapshot: Callable[[], str]  # returns why it could not be written
    begin_upgrade: Callable[[str], None]
    persons: PersonStores
    stacks: StackRequests
    renames: RenameStore
    counters: Counters
    held: HeldProcesses
    consoles: Consoles
    helpers: HelperProcesses
    places: Places


Body: TypeAlias = Callable[[CommandContext, Token, Order], Command]


class CommandSpec(msgspec.Struct, frozen=True):
    """A command and how its request is treated."""

    body: Body
    waits: bool = False  # it only waits: it ends with its client's connection or time
    reads: bool = False  # it changes nothing, so its answer need not follow a broadcast
    ends_host: bool = False  # it is answered when the host ends


STOPPING = (
    "the host is being stopped, so this was not done; once it has ended, start it with: garrison up"
)
STOPPED = "the host was stopped before this was done; start it with: garrison up"
COMMANDS: dict[str, CommandSpec] = {}


def command(
    *, waits: bool = False, reads: bool = False, ends_host: bool = False
) -> Callable[[Body], Body]:
    """Register a function as the command of its name."""

    def register(body: Body) -> Body:
        COMMANDS[body.__name__] = CommandSpec(body, waits, reads, ends_host)
        return body

    return register


# --- what several commands use ------------------------------------------------------------


def option(order: Order, key: str, kind: type[T], default: T | None) -> T:
    """Return an option of an order; any client can send any value."""
    try:
        return msgspec.convert(order.options.get(key, default), kind)
    except msgspec.ValidationError as error:
        raise Refusal("usage", f"{order.verb}: {key}: {error}") from error


def note_of(context: CommandContext, peer: Token, order: Order) -> OrderNote:
    """Return an order's place among all orders, and who gave it. Called when the order arrives:
    what it has to wait for first must not make it a later one."""
    who = sender_of(context, peer, order)
    chain = (who, *context.services.services[who].current.led_by) if who else ()
    why = " ".join(order.why.split())[:WHY_MOST]
    number, led_by = context.next_order(), tuple(dict.fromkeys(chain))[:CHAIN_MOST]
    return OrderNote(number, order.verb, who or OPERATOR, why, time.time(), led_by)


def sender_of(context: CommandContext, peer: Token, order: Order) -> str:
    """Return the NAME of the service that an order comes from, by its own connection or by the
    mark that every process has which it started; empty if it comes from none."""
    if (service := context.services.by_token.get(peer)) is not None:
        return service.name
    for service in context.services.all() if order.mark else ():
        token = service.current.token
        if token and process_tree.incarnation_mark(token) == order.mark:
            return service.name
    return ""


def until_registered(context: CommandContext) -> Command:
    """Wait until the plugins have been read."""
    while not context.plugins.finished:
        yield False
    if context.is_stopping():
        raise Refusal("failed", STOPPING)


def until_recorded(context: CommandContext) -> Command:
    """Wait until all crash reports are on disk."""
    yield from context.until_crashes_written()


def matching(context: CommandContext, order: Order) -> list[str]:
    """Return the NAMEs that an order is about."""
    if len(order.names) > NAMES_MOST or any(len(name) > NAMES_MOST for name in order.names):
        raise Refusal("usage", f"{order.verb}: at most {NAMES_MOST} names of so many characters")
    names, missing = context.services.match(order.names)
    if missing:
        raise Refusal("no_such_service", context.services.unknown(missing[0]))
    return names


def named_services(context: CommandContext, names: list[str]) -> list[Service]:
    """Return the services of these NAMEs; a plugin that cannot be read has none."""
    known = context.services.services
    return [known[name] for name in names if name in known]


def load_config(context: CommandContext) -> Config:
    """Return the config on disk, except for `[host]`, which holds until the host is restarted.

    What does not fit in it is replaced by what was accepted.
    """
    config = context.plugins.load_config()
    if host_differences(context.host, config.host):
        context.log.record("config.host_unchanged", until="the host is started again")
    return replaced(config, host=context.host)
