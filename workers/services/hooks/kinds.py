"""Which events of the host concern hooks: event to kind, service and reason. Pure."""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

REASON_MOST = 300  # characters
TROUBLED_MOST = 1000  # services whose recovery is noticed; of more, the oldest are forgotten
HOST = ""  # in place of a service: the event is of the host itself


class Found(NamedTuple):
    """What an event is for hooks."""

    kind: str
    reason: str


class Troubled(msgspec.Struct):
    """Services that are not well, as far as events tell: `recovered` is of these alone."""

    services: dict[str, str] = {}  # NAME → what it was noted for last

    def note(self, service: str, kind: str) -> None:
        """Note that a service is not well."""
        self.services.pop(service, None)
        if len(self.services) >= TROUBLED_MOST:
            del self.services[next(iter(self.services))]
        self.services[service] = kind

    def forget(self, service: str) -> None:
        """Note that it was stopped by order, or removed."""
        self.services.pop(service, None)

    def is_back(self, service: str, kinds: Collection[str]) -> bool:
        """Return True, once, if a service was noted for one of these kinds."""
        if self.services.get(service, "") not in kinds:
            return False
        del self.services[service]
        return True


def find(event: str, service: str, data: Mapping[str, Any], troubled: Troubled) -> list[Found]:
    """Return what an event is, the most important first; nothing for most events.

    Args:
        event: Its name, "service.state".
        service: NAME of the service; empty: it is of the host.
        data: Its fields.
        troubled: Changed by the event.
    """
    if event == "service.state":
        return _of_state(service, data, troubled)
    if event in {"service.well", "platform.receives"}:
        kinds = {"unwell"} if event == "service.well" else {"deaf"}
        back = troubled.is_back(service, kinds)
        return [Found("recovered", _text(data, "it is well again"))] if back else []
    if event == "service.removed":
        troubled.forget(service)
    if (rule := RULES.get(event)) is None:
        return []
    kind, reason = rule
    if kind in {"unwell", "deaf"}:
        troubled.note(service, kind)
    found = [Found(kind, _line(reason(data)))]
    # A plugin that cannot be read has no services, so no state of one tells it.
    return [Found("failed", found[0].reason), *found] if event == "plugin.unreadable" else found


def _of_state(service: str, data: Mapping[str, Any], troubled: Troubled) -> list[Found]:
    """Return what a service's next state is."""
    before, after = data.get("from"), data.get("to")
    if after == "running":
        back = troubled.is_back(service, {"failed", "death"})
        return [Found("recovered", "it runs again")] if back else []
    if before == "stopping" and after == "stopped" and "death" not in data:
        troubled.forget(service)
        return []
    found = list[Found]()
    exit = data.get("exit")
    reason = _text(data, f"its process {exit}" if exit else "it did not start")
    if after == "failed":
        found.append(Found("failed", reason))
    if data.get("limit"):
        found.append(Found("limit", reason))
    if data.get("death") or (after == "backoff" and before in STARTING):
        found.append(Found("death", reason))
    if any(one.kind != "limit" for one in found):
        troubled.note(service, found[0].kind)
    return found


STARTING = frozenset({"initializing", "starting", "queued"})


def _text(data: Mapping[str, Any], otherwise: str) -> str:
    return _line(str(data.get("reason") or otherwise))


def _reason(otherwise: str, *keys: str) -> Callable[[Mapping[str, Any]], str]:
    """Return what takes the first of these fields, or a sentence where there is none."""

    def reason(data: Mapping[str, Any]) -> str:
        return next((str(data[key]) for key in (*keys, "reason") if data.get(key)), otherwise)

    return reason


# Event → its kind, and its reason.
RULES: dict[str, tuple[str, Callable[[Mapping[str, Any]], str]]] = {
    "service.unwell": ("unwell", _reason("its health check failed", "problem")),
    "service.overrun": ("limit", _reason("it is over its limit")),
    "limit.unheld": ("limit", _reason("this machine does not enforce a limit")),
    "config.rejected": ("config_rejected", _reason("a part of the config is not used", "problem")),
    "config.unusable": ("config_rejected", _reason("the config cannot be used", "problem")),
    "config.not_applied": ("config_rejected", _reason("it was not applied", "problem")),
    "plugin.unreadable": ("config_rejected", _reason("the plugin cannot be read")),
    "disk.low": ("disk", _reason("little space is left on the disk")),
    "disk.ok": ("disk", _reason("there is space on the disk again")),
    "state.unsaved": ("disk", _reason("the state cannot be written", "error")),
    "journal.lost": ("disk", _reason("events were lost: the disk did not take them")),
    "platform.deaf": ("deaf", _reason("it receives nothing")),
    "mail.dead": ("dead_letter", _reason("a message was given up")),
    "budget.reached": ("budget", _reason("a budget is used up")),
    "answer.failed": ("answer_failed", _reason("an answer failed")),
    "task.paused": ("task_paused", _reason("a task was paused")),
}


def choose(found: Iterable[Found], on: Iterable[str]) -> Found | None:
    """Return the one of an event's kinds that a hook delivers; None: it is run on none of them."""
    wanted = set(on)
    return next((one for one in found if one.kind in wanted), None)


def _line(text: str) -> str:
    """Return a text as one line, bounded."""
    line = " ".join(text.split())
    return line if len(line) <= REASON_MOST else line[: REASON_MOST - 1] + "…"
