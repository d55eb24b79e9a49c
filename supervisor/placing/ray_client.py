"""Finds nodes by Ray: starts the program that speaks to it, and takes its answers.

Times are monotonic seconds.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import IO

from .decision import Answer, Demand, NodeOffer, Placed, Resources, Unplaceable, decide
from .ray_messages import Known, MessageError, MessageReader, Want, Wanted, encoded

PROGRAM = (sys.executable, "-P", "-m", "garrison.supervisor.placing.ray_placer")
AGAIN_S, AGAIN_MOST_S = 1.0, 60.0  # before the program is started again; doubled each time
STEADY_S = 60.0  # after which an end is no failed start
SEND_BYTES = 4 << 20  # of the socket's buffer
CLOSE_S = 1.0  # for the program to end by itself
ERROR_BYTES = 65_536  # of what the program prints


@dataclass(slots=True)
class Program:
    """The program that runs."""

    process: "subprocess.Popen[bytes]"
    connection: socket.socket
    errors: IO[bytes]
    began: float
    reader: MessageReader
    sent: Wanted | None = None


class RayPlacer:
    """Places services by Ray.

    Args:
        arguments: Of the program: the address of the cluster, the namespace of this host in Ray,
            the path of the key file on each machine, and as JSON what Ray brings there.
        environ: Its environment.
        others: Pids of children of this process that are not the engine's.
        program: Its command line, without its arguments.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environ: Mapping[str, str],
        others: set[int],
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._command = (*program, *arguments)
        self._environ, self._others = environ, others
        self._program: Program | None = None
        self._is_needed = False  # some service needs Ray's answer
        self._again_at, self._wait, self._problem = 0.0, AGAIN_S, ""
        self._epoch = secrets.randbits(48)  # no group of the supervisor before has one of these
        self._demands: dict[str, Demand] = {}
        self._wants: dict[str, Want] = {}
        self._placed: dict[str, str] = {}  # as they were answered
        self._reasons: dict[str, str] = {}
        self._known = Known()
        self._has_reported = False

    # --- the interface --------------------------------------------------------------------

    def place(self, demand: Demand) -> None:
        """Find a node for a service; a former demand of it is replaced."""
        self._epoch += 1
        name = demand.service
        self._demands[name] = demand
        prefer = "" if demand.only else demand.last
        self._wants[name] = Want(
            name, self._epoch, dict(demand.resources), demand.only, prefer=prefer
        )
        self._placed.pop(name, None)
        self._reasons.pop(name, None)

    def hold(self, demand: Demand, node: str) -> None:
        """Note that a service already runs on a node."""
        name = demand.service
        if self._placed.get(name) == node:
            return
        self._epoch += 1
        self._demands[name], self._placed[name] = demand, node
        self._wants[name] = Want(name, self._epoch, dict(demand.resources), node, holds=True)

    def withdraw(self, service: str) -> None:
        """Forget a service, and free what it has."""
        for table in (self._demands, self._wants, self._placed, self._reasons):
            table.pop(service, None)
        self._is_needed = self._is_needed and bool(self._wants)

    def turn(self, nodes: Sequence[NodeOffer], expected: Iterable[str]) -> list[Answer]:
        """Return what was found since the last call; start the program if it does not run."""
        offers = {one.name: one for one in nodes}
        missing = [name for name in expected if name not in offers or offers[name].problem]
        if self._has_reported:  # a node that is not in the cluster does not come by itself
            missing = [name for name in missing if name in self.resources()]
        of_ray = {name: one for name, one in self._wants.items() if self._is_of_ray(name, offers)}
        asks_ray = {name: one for name, one in of_ray.items() if one.node or not missing}
        self._is_needed = bool(of_ray)  # by its program, Ray also starts the nodes
        self._run()
        self._read()
        wanted = Wanted(
            tuple(asks_ray.values()),
            tuple(one.name for one in nodes if one.avoided),
            {one.name: one.problem for one in nodes if one.problem},
        )
        self._send(wanted)
        answers = list[Answer | None]()
        for name, want in list(self._wants.items()):
            if not want.node and missing:
                words = f"waits for node {', '.join(missing)} to report in"
                words += f"; Ray: {self._problem}" if self._problem else ""
                answers.append(self._once(Unplaceable(name, words, soon=True)))
            else:
                answers.append(self._answer(name, nodes, name in asks_ray))
        return [one for one in answers if one is not None]

    @property
    def wants(self) -> list[Want]:
        """Return what is wanted of Ray, or would be."""
        return list(self._wants.values())

    def descriptors(self) -> list[int]:
        """Return the descriptors to poll for reading."""
        return [self._program.connection.fileno()] if self._program is not None else []

    @property
    def due(self) -> float:
        """Return when `turn` is to be called even if no descriptor is ready."""
        return self._again_at if self._program is None and self._is_needed else inf

    def resources(self) -> dict[str, Resources]:
        """Return what the machines of the cluster have."""
        return {one.name: one.resources for one in self._known.nodes if one.name}

    @property
    def problem(self) -> str:
        """Return why it finds no nodes at the moment, in words; empty: it does."""
        return self._problem

    def close(self) -> None:
        """End; what Ray holds stays as it is. The program has a second to do what was sent last."""
        if self._program is None:
            return
        program, self._program = self._program, None
        program.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.process.wait(CLOSE_S)
        self._reap(program)

    def _reap(self, program: Program) -> None:
        program.connection.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(program.process.pid, signal.SIGKILL)
        program.process.wait()
        self._others.discard(program.process.pid)
        program.errors.close()

    # --- answers --------------------------------------------------------------------------

    def _is_of_ray(self, name: str, offers: Mapping[str, NodeOffer]) -> bool:
        """Return whether Ray decides: not for what needs nothing of its only node, nor for what
        runs on the supervisor's machine."""
        want = self._wants[name]
        return not want.node or (bool(want.resources) and want.node in offers)

    def _answer(self, name: str, nodes: Sequence[NodeOffer], by_ray: bool) -> Answer | None:
        want = self._wants[name]
        if not by_ray:
            found: Answer | None = decide(self._demands[name], nodes, {})
        else:
            found = self._answer_of_ray(name, want)
        if isinstance(found, Placed):
            if self._placed.get(name) == found.node:
                return None
            self._placed[name] = found.node
            return Placed(name, found.node, want.epoch, self._known.devices.get(name, ()))
        return None if found is None or name in self._placed else self._once(found)

    def _once(self, found: Unplaceable) -> Unplaceable | None:
        """Return an answer, if it is another than the last one of the service."""
        if self._reasons.get(found.service) == found.reason:
            return None
        self._reasons[found.service] = found.reason
        return found

    def _answer_of_ray(self, name: str, want: Want) -> Answer | None:
        epoch, node = self._known.placed.get(name, (0, ""))
        if epoch == want.epoch and node:
            return Placed(name, node, epoch)
        epoch, reason = self._known.waits.get(name, (0, ""))
        if epoch == want.epoch:
            return Unplaceable(name, reason)
        if self._problem:
            return Unplaceable(name, f"waits for Ray: {self._problem}")
        return None

    # --- the program ----------------------------------------------------------------------

    def _run(self) -> None:
        if self._program is not None or not self._is_needed or time.monotonic() < self._again_at:
            return
        ours, its = socket.socketpair()
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BYTES)
        errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the program)
        try:
            process = subprocess.Popen(
                self._command,
                env=dict(self._environ),
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            errors.close()
            self._failed(f"its program does not start: {error.strerror}")
            return
        finally:
            its.close()
        self._others.add(process.pid)
        began = time.monotonic()
        self._program = Program(process, ours, errors, began, MessageReader())

    def _read(self) -> None:
        if (program := self._program) is None:
            return
        try:
            while True:
                data = program.connection.recv(SEND_BYTES)
                if not data:
                    self._ended(program)
                    return
                program.reader.feed(data)
        except BlockingIOError:
            pass
        except OSError:
            self._ended(program)
            return
        try:
            known = program.reader.last(Known)
        except MessageError as error:
            self._ended(program, f"its program sends what is no message: {error}")
            return
        if known is not None:
            self._known, self._problem, self._wait = known, "", AGAIN_S
            self._has_reported = True

    def _send(self, wanted: Wanted) -> None:
        program = self._program
        if program is None or program.sent == wanted:
            return
        message = encoded(wanted)
        try:
            if program.connection.send(message) != len(message):
                self._ended(program, "its program does not read")
                return
        except BlockingIOError:
            return  # it is sent at the next turn
        except OSError:
            self._ended(program)
            return
        program.sent = wanted

    def _ended(self, program: Program, problem: str = "") -> None:
        """Note the end of the program, and when the next one is started."""
        self._failed(problem or _last_error(program.errors))
        self._reap(program)
        if time.monotonic() - program.began >= STEADY_S:
            self._wait = AGAIN_S
        self._program, self._known = None, Known()

    def _failed(self, problem: str) -> None:
        self._problem, self._again_at = problem, time.monotonic() + self._wait
        self._wait = min(self._wait * 2, AGAIN_MOST_S)


def _last_error(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(size - ERROR_BYTES, 0))
    lines = errors.read().decode("utf-8", "replace").strip().splitlines()
    return " ".join(lines[-1].split())[:300] if lines else "its program has ended"
