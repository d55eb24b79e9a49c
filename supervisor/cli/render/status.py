"""How the status of services is shown to people."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from garrison.supervisor.logs.events import local_time

from .link import is_disconnected, link_lines, link_problems, link_words
from .table import Column, fitting, indented, pairs, terminal_width
from .text import sanitize, size, span

STYLES = {
    "running": "green",
    "failed": "red",
    "disconnected": "red",
    "backoff": "yellow",
    "queued": "yellow",
    "initializing": "yellow",
    "starting": "yellow",
}
UNWELL = "!"  # beside the state of a service that is not well, and before the lines that say why
LINE_MOST = 200  # characters of a reason
DISCONNECTED = "disconnected"  # a platform's process runs, and its connection has ended for good
NAME_MOST = 28  # columns of a NAME in the table


def status_table(data: dict[str, Any]) -> Iterable[RenderableType]:
    """Return the services as a table, and why some do not run below it."""
    rows, head = data["services"], data["supervisor"]
    running = sum(row["state"] == "running" for row in rows)
    yield Text(
        f"supervisor {head['pid']}, up {span(head['uptime_s'])}, {running} of {len(rows)} running,"
        f" home {head['home']}",
        overflow="fold",
    )
    for one in head.get("config_rejected", ()):
        yield rejected_line(one["text"])
    if head.get("upgrade_pending"):
        yield Text(
            f"{UNWELL} upgrade pending: the supervisor runs garrison {head['version']}, installed "
            f"is {head['installed']}: garrison upgrade",
            overflow="fold",
        )
    for module, reason in head.get("not_preloaded", {}).items():
        yield _one_line(
            f"{UNWELL} not preloaded: {module}: {reason}; each worker imports it itself"
        )
    if not rows:
        yield Text("no services: config.toml names the plugins")
        return
    yield _table(rows)
    for row in rows:
        if any(row["facts"].values()):
            yield Text(sanitize(f"{row['name']}: {facts_line(row['facts'])}"))
        if _unwell(row):
            yield _one_line(f"{row['name']} {UNWELL} its health: {row['health']['problem']}")
        for line in link_lines(row):
            yield _one_line(f"{row['name']}{line}")
        for line in row.get("warnings", ()):
            yield _one_line(f"{row['name']} {UNWELL} {line}")
        if row["reason"] and row["state"] != "running":
            yield _one_line(f"{row['name']}: {row['reason'].splitlines()[0]}")


def rejected_line(problem: str) -> Text:
    """Return the line about a part of the config on disk that is not used."""
    text = sanitize(f"{UNWELL} config rejected: {problem}")
    return Text(text, STYLES["failed"], no_wrap=True, overflow="ignore")


def _marked(row: dict[str, Any]) -> bool:
    """Return True if a mark beside the state says that a line below has more."""
    link = row.get("link") or {}
    broken = link.get("disconnected") or link.get("deaf")
    return _unwell(row) or bool(broken or row.get("config_rejected") or row.get("warnings"))


def _unwell(row: dict[str, Any]) -> bool:
    return row["health"] is not None and not row["health"]["well"]


def _one_line(text: str) -> Text:
    line = Text(sanitize(text))
    line.truncate(LINE_MOST, overflow="ellipsis")
    return line


def _table(rows: list[dict[str, Any]]) -> Table:
    names = [Text(row["name"]) for row in rows]
    for name in names:
        name.truncate(NAME_MOST, overflow="ellipsis")
    cells = [_cells(row) for row in rows]
    columns = [Column("NAME", names), Column("STATE", [_state(row) for row in rows])]
    for number, title in enumerate(("PID", "UP", "RESTARTS", "RSS", "CPU")):
        columns.append(Column(title, [Text(row[number]) for row in cells], right=True))
    return fitting(columns, ("CPU", "RSS", "RESTARTS", "UP", "PID"), terminal_width())


def _state(row: dict[str, Any]) -> Text:
    if is_disconnected(row):
        return Text(f"{DISCONNECTED} {UNWELL}", STYLES["failed"])
    if _marked(row):
        return Text(f"{row['state']} {UNWELL}", STYLES["backoff"])
    return Text(row["state"], STYLES.get(row["state"], ""))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    live = row["pid"] is not None
    return (
        str(row["pid"] or "-"),
        span(row["uptime_s"]) if row["state"] == "running" else "-",
        str(row["restarts"]),
        _memory(row) if live else "-",
        f"{row['cpu_percent']:.0f}%" if live else "-",
    )


def _memory(row: dict[str, Any]) -> str:
    """Return a service's memory, beside its limit if it has one.

    A limit applies to the worker and every process that it started, so then all of them count.
    """
    if not row.get("memory_max"):
        return size(row["rss_bytes"])
    has = row["tree"]["memory_bytes"] if row.get("tree") else row["rss_bytes"]
    return f"{size(has)}/{size(row['memory_max'])}"


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
        ("config", _rejected(row)),
        ("type", row["service_type"]),
        ("plugin", row["plugin"]),
        ("agent", row.get("agent")),
        ("character", row.get("character")),
        ("about", row.get("capability_description")),
        ("pid", _process(row)),
        ("user", row.get("uid")),
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
        ("says", facts_line(row["facts"])),
        ("log", row.get("log")),
    ]
    return pairs(facts)


def facts_line(facts: dict[str, float]) -> str:
    """Return the facts that a service reports: names in _s are seconds, in _bytes bytes."""
    shown = []
    for key, value in facts.items():
        if key.endswith("_s"):
            shown.append(f"{key.removesuffix('_s')} {span(value)}")
        elif key.endswith("_bytes"):
            shown.append(f"{key.removesuffix('_bytes')} {size(int(value))}")
        else:
            shown.append(f"{key} {value:g}")
    return ", ".join(shown).replace("_", " ")


def _process(row: dict[str, Any]) -> str | None:
    if row["pid"] is None:
        return None
    age = row["beat_age_s"]
    beat = f", last beat {age:.1f} s ago" if age is not None else ""
    used = f"{size(row['rss_bytes'])}, {row['cpu_percent']:.0f}% of a processor"
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
