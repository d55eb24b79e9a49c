"""How answers look to people; asking is elsewhere."""

import textwrap
from typing import Any

import click

COLOURS = {
    "running": "green",
    "failed": "red",
    "backoff": "yellow",
    "queued": "yellow",
    "initializing": "yellow",
    "starting": "yellow",
}
NAME_MOST = 28  # columns


def status_table(data: dict[str, Any], width: int) -> str:
    """Return the services as a table, each reason on a line of its own, within a width."""
    rows = data["services"]
    head = data["supervisor"]
    running = sum(row["state"] == "running" for row in rows)
    lines = [
        _cut(
            f"supervisor {head['pid']} up {span(head['uptime_s'])}, "
            f"{running} of {len(rows)} running, home {head['home']}",
            width,
        )
    ]
    if not rows:
        return "\n".join([*lines, "no services; config.toml names the plugins"])
    most = min(max([4, *(len(row["name"]) for row in rows)]), NAME_MOST)
    lines.append(
        f"{'NAME':<{most}} {'STATE':<12} {'PID':>7} {'UP':>6} {'RESTARTS':>8} {'RSS':>6} {'CPU':>5}"
    )
    for row in rows:
        lines.append(_row(row, most))
        if row["reason"] and row["state"] != "running":
            lines.append(_cut(f"  {row['reason'].splitlines()[0]}", width))
    return "\n".join(lines)


def _row(row: dict[str, Any], most: int) -> str:
    state = click.style(f"{row['state']:<12}", fg=COLOURS.get(row["state"]))
    live = row["pid"] is not None
    up = span(row["uptime_s"]) if row["state"] == "running" else "-"
    return (
        f"{_cut(row['name'], most):<{most}} {state} {row['pid'] or '-':>7} {up:>6} "
        f"{row['restarts']:>8} {size(row['rss_bytes']) if live else '-':>6} "
        + (f"{row['cpu_percent']:>4.0f}%" if live else f"{'-':>5}")
    ).rstrip()


def service_detail(row: dict[str, Any], width: int) -> str:
    """Return everything that is known of one service."""
    state = click.style(row["state"], fg=COLOURS.get(row["state"]), bold=True)
    wanted = "" if row["wanted"] == (row["state"] == "running") else _wanted(row)
    lines = [f"{click.style(row['name'], bold=True)} is {state}{wanted}"]
    facts: list[tuple[str, Any]] = [
        ("reason", row["reason"]),
        ("type", row["service_type"]),
        ("plugin", row["plugin"]),
        ("about", row.get("capability_description")),
        ("pid", _process(row)),
        ("up", span(row["uptime_s"]) if row["uptime_s"] else None),
        ("restarts", row["restarts"] or None),
        ("last exit", row["last_exit"]),
        ("next try", f"in {row['again_in_s']:.1f} s" if row.get("again_in_s") else None),
        ("policy", row.get("restart")),
        ("depends on", ", ".join(row.get("depends_on", []))),
        ("bound to", ", ".join(row.get("bind_to", []))),
        ("events", ", ".join(row.get("events", []))),
        ("in flight", row["in_flight"] or None),
        ("log", row.get("log")),
    ]
    lines += [_fact(key, str(value), width) for key, value in facts if value not in {None, ""}]
    if row.get("methods"):
        lines.append("  methods")
        lines += [_method(method, width) for method in row["methods"]]
    if row.get("left_out"):
        lines.append("  methods that cannot be called")
        for name, why in row["left_out"].items():
            lines += _wrapped(f"{name}: {why}", width, 4)
    if row.get("traceback"):
        lines.append("  last traceback")
        lines += [f"    {line}" for line in row["traceback"]]
    return "\n".join(lines)


def _wanted(row: dict[str, Any]) -> str:
    return ", and wanted" if row["wanted"] else ", and not wanted"


def _process(row: dict[str, Any]) -> str | None:
    if row["pid"] is None:
        return None
    age = row["beat_age_s"]
    beat = f", last beat {age:.1f} s ago" if age is not None else ""
    used = f"{size(row['rss_bytes'])}, {row['cpu_percent']:.0f}% of a processor"
    return f"{row['pid']} (generation {row['generation']}, {used}{beat})"


def _method(method: dict[str, Any], width: int) -> str:
    stream = "stream " if method.get("stream") else ""
    head = f"    {stream}{method['name']}{method.get('signature', '')}"
    summary = method.get("summary", "")
    return "\n".join([_cut(head, width), *([_cut(f"      {summary}", width)] if summary else [])])


def _fact(key: str, value: str, width: int) -> str:
    first, *rest = _wrapped(value, width, 14) or [""]
    return "\n".join([f"  {key:<11} {first.strip()}", *rest])


def _wrapped(text: str, width: int, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, width, initial_indent=space, subsequent_indent=space)


def event_line(event: dict[str, Any], local: str) -> str:
    """Return one event for people."""
    data = {"service": event["service"], **event["data"]} if event["service"] else event["data"]
    fields = " ".join(f"{key}={_value(value)}" for key, value in data.items() if value != "")
    return f"{local} {click.style(event['event'], fg='cyan')} {fields}".rstrip()


def _value(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f'"{text}"' if " " in text else text


def span(seconds: float) -> str:
    """Return a duration as people read it, in six columns at most."""
    if seconds < 100:
        return f"{seconds:.0f}s"
    if seconds < 6000:
        return f"{seconds / 60:.0f}m"
    if seconds < 360_000:
        return f"{seconds / 3600:.0f}h"
    return f"{seconds / 86_400:.0f}d"


def size(count: int) -> str:
    """Return bytes as people read them, in six columns at most."""
    if count < 10 * 1024**3:
        return f"{count / 1024**2:.0f}M"
    return f"{count / 1024**3:.0f}G"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
