"""How every detail of a service is shown to people."""

import json
import shlex
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from garrison.supervisor.logs.events import local_time

from .link import is_disconnected, link_problems, link_words
from .status_table import DISCONNECTED, STYLES, UNWELL, facts_line
from .table import indented, pairs
from .text import sanitize, size, span


def _tree(row: dict[str, Any]) -> str | None:
    """Return the usage of a worker and every process that it started, beside the limits."""
    has = row.get("tree")
    if not has:
        return None
    count, most = has["processes"], row["processes_max"]
    memory = size(has["memory_bytes"])
    memory += f" of {size(row['memory_max'])}" if row["memory_max"] else ""
    processes = f"{count} of {most} processes" if most else f"{count} process"
    least = "at least " if has["more"] else ""
    return f"{least}{memory}, {processes}{'es' if not most and count != 1 else ''}"


def service_detail(row: dict[str, Any], command: Callable[[str], str]) -> RenderableType:
    """Return everything that is known of one service.

    Args:
        row: As `status NAME` has it.
        command: Makes a command line to type next.
    """
    state = DISCONNECTED if is_disconnected(row) else row["state"]
    title = Text.assemble((row["name"], "bold"), " is ", (state, STYLES.get(state, "bold")))
    if row["wanted"] != (row["state"] == "running"):
        title.append(", and wanted" if row["wanted"] else ", and not wanted")
    parts: list[RenderableType] = [title, indented(_facts(row))]
    left_out = row.get("left_out") or {}
    sections: list[tuple[str, Iterable[RenderableType]]] = [
        ("started with" if row.get("started_with") else "secrets", _start(row)),
        ("warnings", (_line(f"{UNWELL} {line}") for line in _warnings(row))),
        ("methods", map(_method, row.get("methods") or ())),
        ("methods that cannot be called", (_line(f"{n}: {why}") for n, why in left_out.items())),
        ("notes", map(_line, row.get("notes") or ())),
        ("actions", map(_component, row.get("actions") or ())),
        ("providers", map(_component, row.get("providers") or ())),
        ("evaluators", map(_component, row.get("evaluators") or ())),
        ("models", map(_model, row.get("models") or ())),
        ("last traceback", map(_line, row.get("traceback") or ())),
        ("limits that are not enforced here", map(_line, row.get("unheld") or ())),
        ("deaths", _deaths(row.get("deaths") or [], command)),
    ]
    for name, content in sections:
        if lines := list(content):
            parts.append(indented(name, indented(*lines)))
    return Group(*parts)


def _line(text: str) -> Text:
    return Text(sanitize(text.expandtabs(4)))


def _deaths(lines: list[dict[str, Any]], command: Callable[[str], str]) -> Iterable[RenderableType]:
    if not lines:
        return
    for line in lines:
        when = local_time(line["at"], " ", "seconds")[:19]
        text = f"{line['id']}  {when}  {line['cause']}"
        yield Text(sanitize(text), no_wrap=True, overflow="ellipsis")
    yield Text(f"all of one: {command('death ' + lines[0]['id'])}")


def _facts(row: dict[str, Any]) -> Table:
    facts: list[tuple[str, Any]] = [
        ("reason", row["reason"]),
        ("paused", _paused(row)),
        ("reload", _reload(row)),
        ("config", _rejected(row)),
        *_what(row),
        ("node", row.get("node")),
        ("pid", _process(row)),
        ("user", row.get("uid")),
        ("python", _python(row)),
        ("has", _tree(row)),
        ("up", span(row["uptime_s"]) if row["uptime_s"] else None),
        ("restarts", row["restarts"] or None),
        ("health", _health(row)),
        ("link", _link(row)),
        ("last exit", row["last_exit"]),
        ("next try", f"in {row['again_in_s']:.1f} s" if row.get("again_in_s") else None),
        ("restart", row.get("restart")),
        ("gate", "it may refuse messages to the agent" if row.get("gate") else None),
        ("depends on", ", ".join(row.get("depends_on", []))),
        ("bound to", ", ".join(row.get("bind_to", []))),
        ("needed by", ", ".join(row.get("dependents", []))),
        ("restarts too", ", ".join(row.get("bound_by", []))),
        ("events", ", ".join(row.get("events", []))),
        ("sends for", ", ".join(row.get("sends_for", []))),
        ("in flight", row["in_flight"] or None),
        ("threads", _threads(row)),
        ("direct callees", ", ".join(row.get("direct_to", []))),
        ("direct callers", ", ".join(row.get("direct_from", []))),
        ("says", facts_line(row["facts"])),
        ("log", row.get("log")),
    ]
    return pairs(facts)


def _what(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what a service is: its plugin and character, or its command."""
    if command := row.get("command"):
        return [("command", shlex.join(command)), ("agent", row.get("agent"))]
    return [
        ("type", row["service_type"]),
        ("plugin", row["plugin"]),
        ("agent", row.get("agent")),
        ("character", row.get("character")),
        ("about", row.get("capability_description")),
    ]


def _reload(row: dict[str, Any]) -> str | None:
    """Return the second process of a service while it is reloaded."""
    second = row.get("reload")
    if not second:
        return None
    which = "next" if second["generation"] > row["generation"] else "former"
    return f"the {which} process, {second['pid'] or '-'}, is {second['state']}"


def _paused(row: dict[str, Any]) -> str | None:
    """Return who paused a service, and when."""
    if not row.get("paused"):
        return None
    by = f" by {row['paused_by']}" if row.get("paused_by") else ""
    by += f" ({row['paused_why']})" if row.get("paused_why") else ""
    if since := row.get("paused_since"):
        when = datetime.fromtimestamp(since).astimezone().isoformat(" ", "seconds")
        return f"since {when}{by}"
    return f"yes{by}"


def _process(row: dict[str, Any]) -> str | None:
    if row["pid"] is None:
        return None
    age = row["beat_age_s"]
    beat = f", last beat {age:.1f} s ago" if age is not None else ""
    used = f"{size(row['rss_bytes'])}, {row['cpu_percent']:.0f}% of a processor"
    if not row["rss_bytes"]:  # its node has not reported it yet
        return f"{row['pid']} (generation {row['generation']}{beat})"
    if (seconds := row.get("cpu_seconds")) is not None:  # a former supervisor does not report it
        used += f", {seconds:.3g} s of it in all"
    return f"{row['pid']} (generation {row['generation']}, {used}{beat})"


def _threads(row: dict[str, Any]) -> str | None:
    """Return the threads of plain methods that are held; nothing if none is."""
    use = row.get("threads")
    if not use or not (use["busy"] or use["waiting"]):
        return None
    stuck = f", {use['stuck']} of them given up by the caller" if use["stuck"] else ""
    waiting = f", {use['waiting']} calls wait" if use["waiting"] else ""
    return f"{use['busy']} of {use['most']} held{stuck}{waiting}"


def _health(row: dict[str, Any]) -> str | None:
    check = row["health"]
    if check is None:
        return None
    when = f"{span(check['age_s'])} ago, took {check['took_s']:.3g} s"
    return f"well ({when})" if check["well"] else f"not well: {check['problem']} ({when})"


def _python(row: dict[str, Any]) -> str | None:
    """Return the interpreter of a service, and what runs in it; nothing if it is the host's own."""
    own = row.get("python")
    if not own:
        return None
    if not own["version"]:
        return str(own["path"])
    return f"{own['version']} ({own['path']}), garrison {own['garrison']}, wire {own['wire']}"


def _link(row: dict[str, Any]) -> str | None:
    """Return the last traffic of a platform; nothing for another service."""
    return link_words(row["link"]) if row.get("link") else None


def _warnings(row: dict[str, Any]) -> list[str]:
    return [*link_problems(row), *row.get("warnings", ())]


def _start(row: dict[str, Any]) -> Iterable[RenderableType]:
    """Return what a service was started with; the secrets by name and place."""
    if started := row.get("started_with"):
        facts = [
            ("grace", f"{started['grace']:g} s" if started["grace"] is not None else None),
            ("config", _json(started["config"])),
            ("plugin's config", _json(started["plugin_config"])),
            ("environment", ", ".join(started["environment"])),
        ]
        yield pairs(facts)
    for name, source in (row.get("secrets") or {}).items():
        yield _line(f"secret {name}: {source}")
    if row.get("differs"):
        yield _line(f"{UNWELL} differs from disk: {', '.join(row['differs'])}")


def _json(table: dict[str, Any]) -> str | None:
    return json.dumps(table, ensure_ascii=False) if table else None


def _rejected(row: dict[str, Any]) -> str | None:
    problem = row.get("config_rejected")
    return f"{UNWELL} rejected: {problem}" if problem else None


def _method(method: dict[str, Any]) -> RenderableType:
    stream = "stream " if method.get("stream") else ""
    head = _line(f"{stream}{method['name']}{method.get('signature', '')}")
    summary = method.get("summary", "")
    return Group(head, indented(_line(summary))) if summary else head


def _component(component: dict[str, Any]) -> RenderableType:
    about = component.get("description", "")
    return _line(f"{component['name']}: {about}" if about else component["name"])


def _model(model: dict[str, Any]) -> RenderableType:
    streams = ", streams" if model.get("stream") else ""
    return _line(f"{model['model_type']}, priority {model.get('priority', 0)}{streams}")
