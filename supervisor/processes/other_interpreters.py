"""Forks that wait for the answer of an interpreter beside the host's own; never blocks."""

from collections.abc import Iterable, Mapping
from math import inf

import msgspec

from garrison.ipc.system.installed import installed_version
from garrison.supervisor.config.spec import ProcessLimits

from . import interpreters
from .engine import Key
from .inquiry import Inquiry, InterpreterProblem
from .launcher_process import UnderPython


class WaitingFork(msgspec.Struct, frozen=True):
    """A worker that is forked once its interpreter has answered."""

    key: Key
    name: str
    assignment: bytes
    limits: ProcessLimits
    log: str
    brief: bool


class Answered(msgspec.Struct, frozen=True):
    """What an interpreter answered, and the forks that waited for it."""

    under: UnderPython
    problem: str  # why it cannot run workers; empty: it can
    forks: list[WaitingFork] = msgspec.field(default_factory=list)


class OtherInterpreters:
    """The interpreters whose query is not answered yet.

    Args:
        environment: The environment of workers.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._inquiries: dict[str, Inquiry] = {}
        self._forks: dict[str, list[WaitingFork]] = {}

    @property
    def due(self) -> float:
        """Return when `turn` must be called, though no descriptor is ready."""
        return min((one.due for one in self._inquiries.values()), default=inf)

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return [one.fileno() for one in self._inquiries.values()]

    def pids(self) -> set[int]:
        """Return the processes that answer, which this object reaps."""
        return {one.pid for one in self._inquiries.values()}

    def wait(self, python: str, fork: WaitingFork, used: Iterable[str]) -> None:
        """Keep a fork until its interpreter has answered.

        Args:
            python: The path of the interpreter.
            fork: The fork.
            used: The interpreters that have workers now.

        Raises:
            InterpreterProblem: It cannot be queried.
        """
        if python not in self._inquiries:
            if problem := interpreters.too_many(python, {*used, *self._inquiries}):
                raise InterpreterProblem(problem)
            self._inquiries[python] = Inquiry(python, self._environment)
        self._forks.setdefault(python, []).append(fork)

    def drop(self, key: Key) -> bool:
        """Drop a fork that waits; return False if there is none of that worker."""
        for forks in self._forks.values():
            for fork in forks:
                if fork.key == key:
                    forks.remove(fork)
                    return True
        return False

    def turn(self) -> list[Answered]:
        """Return what was answered since the last call."""
        answered: list[Answered] = []
        for python, inquiry in list(self._inquiries.items()):
            under = UnderPython(python, inquiry.stamp)
            try:
                if (found := inquiry.read()) is None:
                    continue
                problem = interpreters.problem_of(python, found, installed_version())
            except InterpreterProblem as error:
                problem = str(error)
            del self._inquiries[python]
            answered.append(Answered(under, problem, self._forks.pop(python, [])))
        return answered

    def close(self) -> None:
        """End all processes that have not answered."""
        for inquiry in self._inquiries.values():
            inquiry.cancel()
        self._inquiries.clear()
        self._forks.clear()
