"""Why a service is as it is: the chain of causes across services, from what `status` has. Pure.

Ages are seconds. The command line and the chat of operators show the same words.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from .log_span import unix_time

Row: TypeAlias = dict[str, Any]  # of a service, as `status NAME` has it

DEPTH_MOST = 16  # services below one another
RECENT_S = 3600.0  # deaths and lost calls that concern a service which runs
SECRET = re.compile(r"\bsecret ([^\s:]+)")
ORDERED = {"stop": "stopped", "down": "stopped", "start": "started", "restart": "restarted"}


class Evidence(msgspec.Struct, frozen=True):
    """What a crash report shows of one death, in short."""

    calls: tuple[str, ...] = ()  # that it was handling, in words
    where: tuple[str, ...] = ()  # lines of the stack or the traceback
    log: tuple[str, ...] = ()  # its last lines


class LostCalls(msgspec.Struct, frozen=True):
    """Calls of a service that another one's death has ended."""

    service: str  # that died
    report: str
    age_s: float
    methods: tuple[str, ...]


class Cause(msgspec.Struct):
    """One fact about a service, and what has caused it.

    Attributes:
        service: Its NAME.
        kind: "host", "state", "config", "plugin", "secret", "order", "dependency", "death",
            "held_up", "bound", "link", "health", "paused", "warning", "lost_calls", or "reason".
        text: The fact, as a sentence that names the service.
        age_s: When it happened; None where that is not known.
        details: Lines that belong to it: of a stack, of a log.
        report: The id of a crash report.
        advice: What is to be done before `command`, in words.
        command: The command line that mends it, without `garrison`; empty: there is none.
        causes: What caused it.
    """

    service: str
    kind: str
    text: str
    age_s: float | None = None
    details: list[str] = []
    report: str = ""
    advice: str = ""
    command: str = ""
    causes: list["Cause"] = []


class Explanation:
    """Explains services.

    Args:
        rows: NAME → row. One that is missing is not in the config.
        now: Unix seconds.
        evidence: Id of a crash report → what it shows.
        lost: NAME → its calls that were lost.
        taken_along: NAME → the service that it was restarted with, because it is bound to it, and
            how many seconds ago.
    """

    def __init__(
        self,
        rows: Mapping[str, Row],
        now: float,
        evidence: Mapping[str, Evidence] | None = None,
        lost: Mapping[str, Sequence[LostCalls]] | None = None,
        taken_along: Mapping[str, tuple[str, float]] | None = None,
    ) -> None:
        self._rows, self._now, self._taken = rows, now, taken_along or {}
        self._evidence, self._lost = evidence or {}, lost or {}

    def of(self, name: str, above: tuple[str, ...] = ()) -> Cause:
        """Return why a service is as it is.

        Args:
            name: The service.
            above: Those whose explanation this one is part of.
        """
        row = self._rows.get(name)
        if row is None:
            advice = "add it to the config, or take it out of depends_on"
            text = f"{name} is not there: no service of the config has this NAME"
            return Cause(name, "state", text, advice=advice, command="apply")
        whole = Cause(name, "state", f"{name} {state_words(row)}")
        if name in above or len(above) >= DEPTH_MOST:
            whole.text += " (see above)" if name in above else " (and so on)"
            return whole
        causes = self._of_running(row) if runs(row) else self._of_down(row)
        whole.causes = [*causes, *self._dependencies(row, (*above, name))]
        if not whole.causes and not runs(row) and row.get("reason"):
            whole.causes = [Cause(name, "reason", one_line(row["reason"]))]
        return whole

    # --- a service that does not run ----------------------------------------------------------

    def _of_down(self, row: Row) -> list[Cause]:
        name, reason = row["name"], str(row.get("reason") or "")
        if problem := row.get("config_rejected"):
            advice = "correct it"
            text = f"its config was rejected: {problem}"
            return [Cause(name, "config", text, advice=advice, command=f"apply {name}")]
        if reason.startswith("its plugin: "):
            return [self._plugin(row, reason)]
        if not row["wanted"]:
            return [self._order(row)]
        if row["state"] == "stopping":
            return [self._stopping(row, reason)]
        if row["state"] in {"failed", "backoff"} and (found := SECRET.search(reason)):
            return [self._secret(name, found[1], reason)]
        if row["state"] == "queued" and reason.startswith("waits for "):
            return []  # its dependencies say it
        return self._deaths(row, row.get("deaths") or [], is_down=True)

    def _plugin(self, row: Row, reason: str) -> Cause:
        name, lines = row["name"], [*(row.get("traceback") or ())]
        return Cause(
            name,
            "plugin",
            one_line(reason),
            details=lines[-4:],
            advice="correct the plugin",
            command=f"restart {name}",
        )

    def _order(self, row: Row) -> Cause:
        name, note = row["name"], row.get("order") or {}
        command = f"start {name}"
        if note.get("verb") not in {"stop", "down"}:
            restart = row.get("restart", "permanent")
            if row.get("autostart") is False and not row.get("generation"):
                text = "it was not started yet, and does not start by itself: autostart = false"
            elif restart != "permanent" and row.get("last_exit"):
                text = f'it {row["last_exit"]}, and stays so: restart = "{restart}"'
            else:
                text = one_line(str(row.get("reason") or "an order stopped it"))
            return Cause(name, "order", text, command=command)
        return Cause(
            name, "order", order_words(note, self._now), self._age(note.get("at")), command=command
        )

    def _stopping(self, row: Row, reason: str) -> Cause:
        name, note = row["name"], row.get("order") or {}
        causes = [Cause(name, "order", order_words(note, self._now))] if note.get("verb") else []
        text = f"its end {reason}" if reason.startswith("waits for ") else one_line(reason)
        return Cause(
            name, "held_up", text or "it is being ended", command=f"stack {name}", causes=causes
        )

    def _secret(self, name: str, secret: str, reason: str) -> Cause:
        advice = f"put {secret} where the text says"
        return Cause(name, "secret", one_line(reason), advice=advice, command=f"restart {name}")

    # --- a service that runs ------------------------------------------------------------------

    def _of_running(self, row: Row) -> list[Cause]:
        name, link, found = row["name"], row.get("link") or {}, list[Cause]()
        if link.get("disconnected"):
            text = f"its connection has ended for good: {link['disconnected']}"
            advice = "correct that"
            found.append(Cause(name, "link", text, advice=advice, command=f"restart {name}"))
        if link.get("deaf"):
            text = f"its receiving side is deaf: {link['deaf']}"
            found.append(Cause(name, "link", text, command=f"restart {name}"))
        health = row.get("health")
        if health and not health["well"]:
            text = f"its health is not good: {one_line(str(health['problem']))}"
            found.append(Cause(name, "health", text, command=f"logs {name}"))
        if row.get("paused"):
            text = "an operator has paused it: it takes nothing"
            found.append(Cause(name, "paused", text, command=f"resume {name}"))
        if problem := row.get("config_rejected"):
            text = f"it goes on as it was accepted; its config on disk was rejected: {problem}"
            advice = "correct it"
            found.append(Cause(name, "config", text, advice=advice, command=f"apply {name}"))
        found += [Cause(name, "warning", one_line(str(one))) for one in row.get("warnings") or ()]
        found += self._taken_along(name)
        deaths = [one for one in row.get("deaths") or [] if self._is_recent(one)]
        found += self._deaths(row, deaths, is_down=False)
        return found + self._lost_calls(name)

    def _taken_along(self, name: str) -> list[Cause]:
        other, age = self._taken.get(name, ("", RECENT_S))
        if age >= RECENT_S:
            return []
        row = self._rows.get(other) or {}
        deaths = [one for one in row.get("deaths") or [] if self._is_recent(one)]
        causes = self._deaths(row, deaths, is_down=False)
        text = f"it was restarted with {other}, which it is bound to"
        return [Cause(name, "bound", text, age, causes=causes)]

    def _lost_calls(self, name: str) -> list[Cause]:
        found = []
        for one in self._lost.get(name, ()):
            if one.age_s > RECENT_S:
                continue
            methods = ", ".join(dict.fromkeys(one.methods))
            count = len(one.methods)
            text = (
                f"{count} of its calls {'was' if count == 1 else 'were'} lost when {one.service} "
                f"died: {methods}"
            )
            show = f"death {one.report}"
            found.append(Cause(name, "lost_calls", text, one.age_s, [], one.report, command=show))
        return found

    # --- both ---------------------------------------------------------------------------------

    def _deaths(self, row: Row, deaths: Sequence[Row], is_down: bool) -> list[Cause]:
        """Return the last death, with how many others there were."""
        name = row["name"]
        if not deaths:
            return []
        last = max(deaths, key=lambda one: one.get("n", 0))
        text, report = one_line(str(last["cause"])), str(last["id"])
        alike = sum(one["cause"] == last["cause"] for one in deaths)
        if alike > 1:
            most = "the last " if alike < (row.get("restarts") or 0) else ""
            text += f" ({most}{alike} times the same)"
        if last.get("node"):
            text += f" (on {last['node']})"
        evidence = self._evidence.get(report, Evidence())
        details = [*evidence.calls, *evidence.where, *evidence.log]
        advice, command = "", f"death {report}"
        if is_down:
            limit = last.get("kind") == "limit"
            advice = "raise that limit, or find what grows" if limit else "correct that"
            command = f"restart {name}"
        elif last.get("kind") == "start" or not text.startswith("it "):
            text = f"its last death: {text}"
        return [Cause(name, "death", text, self._age(last["at"]), details, report, advice, command)]

    def _dependencies(self, row: Row, above: tuple[str, ...]) -> list[Cause]:
        found = []
        for name in row.get("depends_on") or ():
            other = self._rows.get(name)
            if (
                other is not None
                and runs(other)
                and not (other.get("link") or {}).get("disconnected")
            ):
                continue
            why = self.of(name, above)
            verb = "depends on" if runs(row) else "waits for" if row["wanted"] else "would wait for"
            which = why.text.removeprefix(f"{name} ")
            found.append(
                Cause(row["name"], "dependency", f"it {verb} {name}, which {which}", causes=[why])
            )
        return found

    def _age(self, at: object) -> float | None:
        seconds = unix_time(at) if isinstance(at, str) else at
        return max(self._now - seconds, 0.0) if isinstance(seconds, int | float) else None

    def _is_recent(self, death: Row) -> bool:
        age = self._age(death["at"])
        return age is not None and age <= RECENT_S


def runs(row: Row) -> bool:
    """Return whether a service runs."""
    return bool(row["state"] == "running")


def state_words(row: Row) -> str:
    """Return a service's state as the end of a sentence: "is failed, and not tried again"."""
    state, again = row["state"], row.get("again_in_s")
    match state:
        case "running":
            return f"runs, for {span(row.get('uptime_s') or 0.0)}" + (
                ", paused" if row.get("paused") else ""
            )
        case "backoff" | "failed":
            tried = f"tried again in {span(again)}" if again else "not tried again by itself"
            if state == "backoff" and not again:  # a row without details does not say when
                tried = "tried again by itself"
            return f"is {'in ' if state == 'backoff' else ''}{state}, and {tried}"
        case "stopped" | "registered":
            return f"is {state}"
        case _:
            return f"is {state}" + (", and not wanted" if not row["wanted"] else "")


def order_words(note: Mapping[str, Any], now: float) -> str:
    """Return an order in words: "an operator stopped it 3 min ago: maintenance"."""
    who = str(note.get("user") or note.get("who") or "operator")
    by = "an operator" if who == "operator" else who
    done = ORDERED.get(str(note.get("verb")), f"gave the order {note.get('verb')} for")
    at = note.get("at")
    ago = f" {span(now - at)} ago" if isinstance(at, int | float) and at else ""
    why = f": {one_line(str(note['why']))}" if note.get("why") else ""
    return f"{by} {done} it{ago} (garrison {note.get('verb')}){why}"


def mends(cause: Cause) -> list[Cause]:
    """Return the facts whose `command` mends something: those at the bottom of the chain."""
    found = [one for below in cause.causes for one in mends(below)]
    return found or ([cause] if cause.command else [])


def cause_lines(cause: Cause, depth: int = 0) -> Iterator[tuple[int, str]]:
    """Yield each fact as a line with its depth, the service itself first.

    The state of a service is not repeated below the line that depends on it.
    """
    if depth == 0 or cause.kind != "state":
        ago = f"{span(cause.age_s)} ago" if cause.age_s is not None else ""
        if cause.kind == "order":  # its text has the time
            ago = ""
        more = ", ".join(one for one in (cause.report, ago) if one)
        yield depth, f"{cause.text} ({more})" if more else cause.text
        yield from ((depth + 1, line) for line in cause.details)
        depth += 1
    for below in cause.causes:
        yield from cause_lines(below, depth)


def services_of(rows: Iterable[Row]) -> set[str]:
    """Return the services whose rows a chain through these needs."""
    return {name for row in rows for name in row.get("depends_on") or ()}


def span(seconds: float) -> str:
    """Return a time in short: `12 s`, `5 min`, `3 h`, `2 d`."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0.0):.0f} s"


def one_line(text: str) -> str:
    """Return the first line of a text."""
    return (text.strip().splitlines() or [""])[0]
