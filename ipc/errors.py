"""Garrison's own errors, and the conversion of call errors to a `Fault` and back.

Errors that methods declare, with fields, are in `ipc.declared_errors`.
"""

from typing import Any, Self

import msgspec

from .marks import Identifier, Text, Values

REMEDIES = {  # state → what to do, appended to a sentence
    "stopped": "; start it with: garrison start {}",
    "failed": "; garrison status {} says why",
    "backoff": "; garrison status {} says why",
}


class GarrisonError(Exception):
    """Base of all errors of garrison."""


class ConfigError(GarrisonError):
    """The configuration is invalid; correct the file at the place that the text names."""

    def __init__(
        self, problem: str, *, path: str = "", line: int | None = None, key: str = ""
    ) -> None:
        self.problem, self.path, self.line, self.key = problem, path, line, key
        where = f"{path}:{line}" if line is not None else path
        super().__init__(": ".join(part for part in (where, key, problem) if part))


class StartError(GarrisonError):
    """A service did not start: its `start` raised, or took longer than its `start_timeout`."""

    def __init__(self, service: str, reason: str) -> None:
        self.service, self.reason = service, reason
        super().__init__(f"{service} did not start: {reason}")


class PermanentFailure(GarrisonError):
    """Raised by a service in `start`: a retry cannot succeed, so the service is failed."""


class WireError(GarrisonError):
    """Bytes that are no valid message; they were dropped and counted."""

    def __init__(self, reason: str, frame: bytes = b"") -> None:
        self.reason, self.frame = reason, frame[:64]
        super().__init__(f"not a valid message: {reason}")


class SupervisorGone(GarrisonError):
    """No supervisor answers at the path in the text; `garrison up` starts one."""

    def __init__(
        self, path: str, hint: str = "start one with: garrison up, or name another home with --home"
    ) -> None:
        self.path, self.hint = path, hint
        super().__init__(f"no supervisor at {path}; {hint}")


class NotAdmitted(SupervisorGone):
    """The supervisor belongs to another user; its owner says in `[host] operators` who may what."""

    code = "not_allowed"

    def __init__(self, path: str, text: str = "") -> None:
        super().__init__(path)
        none = "you are in no team of its operators; its owner names them in [host] operators"
        self.args = (f"this host belongs to another user, and {text or none}",)


class SocketMissing(SupervisorGone):
    """A supervisor has the home, but it does not listen at the path in the text."""

    code = "socket_missing"

    def __init__(self, path: str, pid: str) -> None:
        super().__init__(path)
        self.pid = pid
        self.args = (
            f"the supervisor runs (pid {pid}), but does not listen at {path}. It restores a "
            f"removed socket within a second, unless it is stopped: try again after kill -CONT "
            f"{pid}; kill -9 {pid} and garrison up replace it, and services run on",
        )


UNANSWERED = "it ended before it answered; the order may have been done: garrison status shows it"


class OrderFailed(GarrisonError):
    """The supervisor rejected a request, or it failed; `code` is the reason."""

    def __init__(self, code: str, message: str, data: Any = None) -> None:
        self.code, self.message, self.data = code, message, data
        super().__init__(message)


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """A call error on the wire: its class's name and its fields."""

    kind: Identifier
    service: Identifier
    method: Identifier
    detail: Text = ""
    traceback: Text = ""
    data: Values = {}  # of a declared error: its fields


class CallError(GarrisonError):
    """A call ended without a result."""

    def __init__(self, service: str, method: str, detail: str = "") -> None:
        self.service, self.method, self.detail = service, method, detail
        super().__init__(self.text())

    def text(self) -> str:
        """Return the error's sentence."""
        return f"{self.service}.{self.method}: {self.detail}"

    def fault(self) -> Fault:
        """Return this error for the wire."""
        return Fault(type(self).__name__, self.service, self.method, self.detail)

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        """Return the error that a fault describes."""
        return cls(fault.service, fault.method, fault.detail)


class ServiceUnavailable(CallError):
    """Not run: the service is failed or stopped, or did not run by the deadline. Retry later."""

    def text(self) -> str:
        sentence = f"{self.service} is {self.detail}"
        if self.method:
            sentence = f"{self.service}.{self.method} was not run: {sentence}"
        return f"{sentence}{REMEDIES.get(self.state, '').format(self.service)}"

    @property
    def state(self) -> str:
        """Return the state that the service was in; its reason follows in `detail`."""
        return self.detail.partition(": ")[0]


class Overloaded(CallError):
    """Not run: the window to the service stayed full until the deadline. Retry later, or less."""

    def text(self) -> str:
        return f"{self.service}.{self.method} was not run: {self.detail}"


class InvalidCall(CallError):
    """Not run: there is no such method, or the arguments do not fit it. Correct the call."""

    def text(self) -> str:
        return f"{self.service}.{self.method} was not run: {self.detail}"

    @property
    def reason(self) -> str:
        """Return what does not fit."""
        return self.detail


class CallTimeout(CallError):
    """No answer before the deadline; the call may still take effect.

    `chain` has the methods that led to the call, outermost first: `service.method`.
    """

    def __init__(
        self, service: str, method: str, detail: str = "", chain: tuple[str, ...] = ()
    ) -> None:
        self.chain = chain
        super().__init__(service, method, detail)

    def text(self) -> str:
        sentence = f"{self.service}.{self.method} gave no answer within {self.detail} s"
        return f"{sentence}; it was called by {' → '.join(self.chain)}" if self.chain else sentence

    @property
    def timeout(self) -> float:
        """Return the deadline of the call, in seconds."""
        return float(self.detail)


class ServiceLost(CallError):
    """The service's process ended during the call, which may have taken effect."""

    died = True  # False: the connection was lost with the router, or the end was in order
    generation = 0  # of the lost incarnation, if known

    def text(self) -> str:
        return f"{self.service}.{self.method} was lost: {self.detail}"

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        """Return the error that a service reported of a call which its end cut short: no call is
        to blame for that end."""
        error = super().arrived(fault)
        error.died = False
        return error

    @property
    def cause(self) -> str:
        """Return why the process ended."""
        return self.detail


class RemoteError(CallError):
    """The method raised; `type_name` and `traceback` are those of its exception.

    `data` has the fields of a declared error whose class this process does not have.
    """

    def __init__(
        self, service: str, method: str, detail: str = "", traceback: str = "", type_name: str = ""
    ) -> None:
        self.traceback = traceback
        if traceback:  # shown wherever this error is, and sent on with it
            self.add_note(f"in {service}'s process:\n{traceback.rstrip()}")
        self.type_name = type_name or detail.partition(":")[0]
        self.data: dict[str, Any] = {}
        super().__init__(service, method, detail)

    def text(self) -> str:
        return f"{self.service}.{self.method} raised {self.detail}"

    def fault(self) -> Fault:
        return Fault("RemoteError", self.service, self.method, self.detail, self.traceback)

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        error = cls(fault.service, fault.method, fault.detail, fault.traceback)
        error.data = {name: value for name, value in fault.data.items() if name != CLASSES}
        return error


def chain_problem(chain: tuple[str, ...]) -> str:
    """Return why a call is refused that this chain of calls led to."""
    return (
        f"it would be call {len(chain) + 1} of a chain, of which at most {len(chain)} are allowed: "
        f"{' → '.join(chain)}; do they call each other without an end? A task of spawn begins a "
        "chain of its own"
    )


KINDS: dict[str, type[CallError]] = {
    kind.__name__: kind
    for kind in (
        ServiceUnavailable,
        Overloaded,
        InvalidCall,
        CallTimeout,
        ServiceLost,
        RemoteError,
    )
}


CLASSES = "error"  # key of `Fault.data`: names of declared classes, the error's own first
DATA_MOST = 1024  # bytes of `Fault.data`, encoded; more is ignored
DECLARED: dict[str, type[RemoteError]] = {}  # by name; `ipc.declared_errors` enters them


def from_fault(fault: Fault) -> CallError:
    """Return the error that a fault describes; `CallError` if this version does not know it."""
    if fault.data:
        if len(msgspec.msgpack.encode(fault.data)) > DATA_MOST:
            fault = msgspec.structs.replace(fault, data={})
        elif fault.kind == "RemoteError" and (declared := _declared(fault)) is not None:
            return declared
    return KINDS.get(fault.kind, CallError).arrived(fault)


def _declared(fault: Fault) -> RemoteError | None:
    """Return the error as the first of its classes that this process has, and its fields fit."""
    names = fault.data.get(CLASSES)
    for name in names if isinstance(names, list) else ():
        declared = DECLARED.get(name) if isinstance(name, str) else None
        if declared is not None:
            try:
                return declared.arrived(fault)
            except (msgspec.ValidationError, ValueError):  # the sender's class has other fields
                continue
    return None
