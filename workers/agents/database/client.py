"""The proxy of a database in its caller's worker: it fills in `agent_id`, and converts results.

It is a proxy like any other: `state` and `with_timeout` take it, and its methods may be called in
threads. A database whose methods take no `agent_id` is called without: it does not keep agents
apart.
"""

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any, NoReturn

import msgspec

from garrison.ipc.caller import Caller
from garrison.ipc.directory import Directory
from garrison.ipc.errors import InvalidCall, ServiceUnavailable
from garrison.ipc.messages import Entry
from garrison.ipc.proxy import RemoteMethod, ServiceProxy

from .adapter import DatabaseAdapter
from .records import RECORDS, as_fields
from .task_notices import CHANGING, notify_after

AGENT_ID, ELIZA_AGENT_ID = "agent_id", "agentId"
SIGNATURE_MOST = 500  # characters of a signature that a manifest has


class DatabaseProxy(ServiceProxy):
    """A database, or the agent in place of one."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(f"{self!r} has no method {name!r}")
        method = self.__dict__[name] = self._method(name)
        return method

    def _method(self, name: str) -> Callable[..., Any]:
        position = AGENT_POSITIONS.get(name)
        entry = self._client.directory.get(self._name)
        if entry is not None and position is not None and lacks_tables(entry, name):
            return needs_database(name)
        info = self._find(name)
        kind = RemoteMethod if position is None else DatabaseMethod
        return kind(self._client, self._name, info, self._class, self._timeout)


class DatabaseMethod(RemoteMethod):
    """A method of `DatabaseAdapter`."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        position = AGENT_POSITIONS[self._info.name]
        if position == sys.maxsize and len(args) == 1 and isinstance(args[0], Mapping):
            kwargs, args = {**args[0], **kwargs}, args[1:]  # elizaOS's queries
        given = kwargs.pop(AGENT_ID, kwargs.pop(ELIZA_AGENT_ID, None))
        if len(args) > position:
            given, args = args[position], args[:position]
        args, kwargs = self._with_records(args, kwargs)
        if takes_agent(self._info.signature):
            kwargs[AGENT_ID] = self._agent() if given is None else given
        result = super().__call__(*args, **kwargs)
        if self._info.name in CHANGING:
            notify_after(self._client, result)
        return result

    def _with_records(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments; a record may be given as a mapping, with elizaOS's names.

        Raises:
            InvalidCall: A mapping has a field that the record does not have.
        """
        name = self._info.name
        if name not in RECORD_OF:
            return args, kwargs
        position, parameter, cls = RECORD_OF[name]
        try:
            if parameter in kwargs:
                kwargs[parameter] = as_fields(cls, kwargs[parameter])
            elif len(args) > position:
                record = as_fields(cls, args[position])
                args = (*args[:position], record, *args[position + 1 :])
        except ValueError as error:
            raise InvalidCall(self._name, name, str(error)) from error
        return args, kwargs

    def _agent(self) -> str:
        """Return the caller's agent.

        Raises:
            InvalidCall: The caller belongs to none, and the host has several.
        """
        client = self._client
        agent = agent_of_caller(client.directory, client.name, client.agent, self._name)
        if agent is None:
            agents = ", ".join(agents_of(client.directory))
            detail = f"{client.name} belongs to no agent: call it with agent_id=, one of {agents}"
            raise InvalidCall(self._name, self._info.name, detail)
        return agent


def make_proxy(client: Caller, entry: Entry, cls: type | None) -> ServiceProxy:
    """Return a proxy of a service; that of a database fills in the agent, and has a class."""
    if entry.manifest.service_type == "database":
        return DatabaseProxy(client, entry.name, cls or DatabaseAdapter)
    return ServiceProxy(client, entry.name, cls)


def agent_of_caller(directory: Directory, name: str, agent: str, database: str) -> str | None:
    """Return the agent whose records a service means without naming one; None: it must name one.

    Args:
        directory: The host's services.
        name: NAME of the service.
        agent: Its agent; "" if it is shared.
        database: NAME of the service that it calls.
    """
    if agent:
        return agent
    called, own = directory.get(database), directory.get(name)
    if called is not None and called.agent:  # it has that agent's records alone
        return called.agent
    is_agent = own is not None and own.manifest.service_type == "agent"
    return "" if is_agent or not agents_of(directory) else None


def agents_of(services: Iterable[Entry]) -> list[str]:
    """Return the agents that services belong to."""
    return list(dict.fromkeys(entry.agent for entry in services if entry.agent))


def takes_agent(signature: str) -> bool:
    """Return whether a method takes `agent_id`, by its signature in the manifest, which may be
    cut off."""
    return re.search(rf"\b{AGENT_ID}\b", signature) is not None or len(signature) >= SIGNATURE_MOST


def lacks_tables(entry: Entry, method: str) -> bool:
    """Return whether a method of databases is missing because the service is only the agent."""
    known = {info.name for info in entry.manifest.methods}
    return entry.manifest.service_type == "agent" and method not in known


def needs_database(method: str) -> Callable[..., Any]:
    """Return a stand-in for a method that the agent lacks."""

    def call(*args: Any, **kwargs: Any) -> NoReturn:
        raise ServiceUnavailable(
            "database",
            method,
            "not configured, and the agent keeps memories, tasks and cached values alone: "
            "add [plugins.database] to the config",
        )

    return call


def _parameters() -> dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]]:
    """Return the methods of `DatabaseAdapter`: the names of its parameters, of those that are only
    given by name, and the types. Each process that starts workers asks for these at its start, and
    `inspect.signature` takes ten times as long."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, Any]]] = {}
    for cls in reversed(DatabaseAdapter.__mro__):
        for name, method in vars(cls).items():
            if isinstance(method, FunctionType):
                code, most = method.__code__, method.__code__.co_argcount
                by_name = code.co_varnames[most : most + code.co_kwonlyargcount]
                found[name] = code.co_varnames[1:most], by_name, method.__annotations__
    return found


def _agent_positions() -> dict[str, int]:
    """Return the methods of `DatabaseAdapter` that take `agent_id`, and its position in each."""
    found: dict[str, int] = {}
    for name, (names, by_name, _) in _parameters().items():
        if AGENT_ID in by_name:
            found[name] = sys.maxsize
        elif AGENT_ID in names:
            found[name] = names.index(AGENT_ID)
    return found


def _record_parameters() -> dict[str, tuple[int, str, type[msgspec.Struct]]]:
    """Return the methods of `DatabaseAdapter` that take a record, or a list of them: its position,
    its name and its class."""
    found: dict[str, tuple[int, str, type[msgspec.Struct]]] = {}
    for name, (names, by_name, hints) in _parameters().items():
        for position, parameter in enumerate((*names, *by_name)):
            hint = hints.get(parameter)
            for cls in RECORDS:
                if hint == cls or hint == list[cls]:  # type: ignore[valid-type]
                    found[name] = position, parameter, cls
    return found


AGENT_POSITIONS = _agent_positions()
RECORD_OF = _record_parameters()
