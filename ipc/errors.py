"""Every error of garrison's own, and each call error as a `Fault` on the wire and back."""

from typing import Any, Self

import msgspec

from .marks import Identifier, Text

REMEDIES = {  # state → what to do, as the end of a sentence
    "stopped": "; start it with: garrison start {}",
    "failed": "; garrison status {} says why",
    "backoff": "; garrison status {} says why",
}


class GarrisonError(Exception):
    """Something that garrison itself has to say; catch this for everything of ours."""


class ConfigError(GarrisonError):
    """The configuration cannot be used: mend the file where the text says."""

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
    """Raised by a service in `start`: no retry can help, so it is failed until someone acts."""


class WireError(GarrisonError):
    """Bytes that are no message of ours; they were dropped and counted."""

    def __init__(self, reason: str, frame: bytes = b"") -> None:
        self.reason, self.frame = reason, frame[:64]
        super().__init__(f"not a message of ours: {reason}")


class SupervisorGone(GarrisonError):
    """No supervisor answers at the path that the text names; `garrison up` starts one."""

    def __init__(
        self, path: str, hint: str = "start one with: garrison up, or name another home with --home"
    ) -> None:
        self.path = path
        super().__init__(f"no supervisor at {path}; {hint}")


class OrderFailed(GarrisonError):
    """The supervisor refused an order or could not carry it out; `code` is a listed word."""

    def __init__(self, code: str, message: str, data: Any = None) -> None:
        self.code, self.message, self.data = code, message, data
        super().__init__(message)


class Fault(msgspec.Struct, array_like=True, frozen=True):
    """A call error on the wire: the class's name, its fields as text."""

    kind: Identifier
    service: Identifier
    method: Identifier
    detail: Text = ""
    traceback: Text = ""


class CallError(GarrisonError):
    """A call ended without a result."""

    def __init__(self, service: str, method: str, detail: str = "") -> None:
        self.service, self.method, self.detail = service, method, detail
        super().__init__(self.text())

    def text(self) -> str:
        """Return the sentence that people read."""
        return f"{self.service}.{self.method}: {self.detail}"

    def fault(self) -> Fault:
        """Return this error as it travels."""
        return Fault(type(self).__name__, self.service, self.method, self.detail)

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        """Return the error that a fault describes."""
        return cls(fault.service, fault.method, fault.detail)


class ServiceUnavailable(CallError):
    """Not run: the service is failed or stopped, or was not running by the deadline. Ask again
    later."""

    def text(self) -> str:
        said = f"{self.service}.{self.method} was not run: {self.service} is {self.detail}"
        return f"{said}{REMEDIES.get(self.detail, '').format(self.service)}"

    @property
    def state(self) -> str:
        """Return the state that the service was in."""
        return self.detail


class Overloaded(CallError):
    """Not run: the window to the service stayed full until the deadline. Send less, or later."""

    def text(self) -> str:
        return f"{self.service}.{self.method} was not run: {self.detail}"


class InvalidCall(CallError):
    """Not run: no such method, or arguments that do not fit it. Mend the call."""

    def text(self) -> str:
        return f"{self.service}.{self.method} was not run: {self.detail}"

    @property
    def reason(self) -> str:
        """Return what does not fit."""
        return self.detail


class CallTimeout(CallError):
    """No answer in time; it may still take effect."""

    def text(self) -> str:
        return f"{self.service}.{self.method} gave no answer within {self.detail} s"

    @property
    def timeout(self) -> float:
        """Return the seconds that the call was given."""
        return float(self.detail)


class ServiceLost(CallError):
    """The service's process ended in mid-call; it may have taken effect."""

    died = True  # False: only the way to it was lost, with the router
    generation = 0  # of the incarnation that was lost, where that is known

    def text(self) -> str:
        return f"{self.service}.{self.method} was lost: {self.detail}"

    @property
    def cause(self) -> str:
        """Return how the process ended, in words."""
        return self.detail


class RemoteError(CallError):
    """The method itself raised; `type_name` and `traceback` are those of the other process."""

    def __init__(
        self, service: str, method: str, detail: str = "", traceback: str = "", type_name: str = ""
    ) -> None:
        self.traceback = traceback
        if traceback:  # so that it is seen wherever this error is, and travels on with it
            self.add_note(f"in {service}'s process:\n{traceback.rstrip()}")
        self.type_name = type_name or detail.partition(":")[0]
        super().__init__(service, method, detail)

    def text(self) -> str:
        return f"{self.service}.{self.method} raised {self.detail}"

    def fault(self) -> Fault:
        return Fault("RemoteError", self.service, self.method, self.detail, self.traceback)

    @classmethod
    def arrived(cls, fault: Fault) -> Self:
        return cls(fault.service, fault.method, fault.detail, fault.traceback)


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


def from_fault(fault: Fault) -> CallError:
    """Return the error that a fault describes; one of a later version is a plain `CallError`."""
    return KINDS.get(fault.kind, CallError).arrived(fault)
