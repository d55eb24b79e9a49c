"""Writes the reference of the config, `config.toml` and `docs/reference/config.md`, from `spec`.

Run `python -m garrison.supervisor.config.reference` in a checkout.
"""

import json
import re
import sys
import textwrap
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_origin

import msgspec

from .command_spec import PlainCommand
from .engine_spec import EngineSpec, NodeSpec
from .hook_spec import HookOn, HookSpec
from .host_spec import HostSpec
from .keys import KeyField, key_fields
from .spec import AgentSection, PluginSpec, ServiceSpec

TEMPLATE = Path(__file__).with_name("template.toml")
PLACEHOLDER = re.compile(r"^#:( +)([a-z]+)\n", re.MULTILINE)  # the keys of a table belong here
WIDTH, NOTE_COLUMN = 80, 31
KIND_TEXTS = {  # by `Key.kind`
    "name": "NAME",
    "account": "name or number",
    "umask": "octal digits in quotes",
    "env": "table of strings",
    "secrets": "list of names, or table",
    "use": "module, or `module:attribute`",
    "services": "tables",
    "command": "list of strings",
    "ready": '`"line: …"`, `"port: …"` or `"notify"`',
    "signal": "name of a signal",
    "words": "list of strings",
    "address": "http or https",
    "amount": "size, or percent",
    "secret": "name",
    "method": "NAME.method",
    "operators": "table of teams",
    "collector": "http or https address",
    "ratio": "number, 0 to 1",
    "secret_name": "name",
    "listen": "address and port",
    "ray_address": '`"auto"`, or address and port',
    "node_path": "path on the node",
    "node": 'NAME, `"supervisor"` or `"any"`',
    "resources": "table of numbers",
    "node_resources": "table of numbers",
    "node_tables": "tables",
    "runtime_env": "table of lists",
}


class Table(NamedTuple):
    """One table of the config, as the reference presents it."""

    title: str
    text: str
    keys: list[KeyField]


def _tables() -> dict[str, Table]:
    """Return the tables by their placeholder in the template, in the order of the page."""
    service, agents = list(key_fields(ServiceSpec)), list(key_fields(AgentSection))
    command = list(key_fields(PlainCommand))
    return {
        "host": Table("[host]", "The host itself.", list(key_fields(HostSpec))),
        "engine": Table(
            "[engine]",
            "Where services run. Without it, all run on this machine. See "
            "[Nodes](../operate/nodes.md).",
            [field for field in key_fields(EngineSpec) if field.name != "nodes"],
        ),
        "nodes": Table(
            "[engine.nodes.NAME]",
            "One machine, with kind nodes. A machine without such a table offers its CPU and "
            "memory.",
            list(key_fields(NodeSpec)),
        ),
        "defaults": Table(
            "[defaults]",
            "All services. Each of these keys can stand in `[services.NAME]` too, and then "
            "overrides the value here. `env` is merged: a service gets the variables of both "
            "tables.",
            [field for field in service if not field.key.own],
        ),
        "plugin": Table(
            "[plugins.NAME]",
            "One plugin. `use` is `module:attribute`, where the attribute is `plugin` if none is "
            "named. A bare word is an installed plugin, or a file of that name beside the config.",
            list(key_fields(PluginSpec)),
        ),
        "agent": Table(
            "[agent]",
            "The character that the host's services speak as. See [Agents](../guide/agents.md).",
            [field for field in agents if field.name == "character"],
        ),
        "agents": Table(
            "[agents.NAME]",
            "One of several agents in one host. A plugin that agents run is run once for each of "
            "them, and its services have NAMEs such as `ada.chat`. A plugin that no agent names is "
            "run once, for all agents.",
            agents,
        ),
        "service": Table(
            "[services.NAME]",
            "One service, with these keys and those of [`[defaults]`](#defaults). A plugin's "
            "services run without a section, each with its service_type as its NAME. For the forms "
            "of `secrets` see [Secrets](../operate/secrets.md).",
            [field for field in service if field.key.own and field not in command],
        ),
        "command": Table(
            "[services.NAME] with a command",
            "A [plain command](../services/command.md) as a service, without a plugin. Its section "
            "has these keys, those of [`[defaults]`](#defaults), and of those of a service "
            "`env_file`, `secrets`, `depends_on` and `bind_to`.",
            command,
        ),
        "hook": Table(
            "[hooks.NAME]",
            "Notifies a command, a webhook or a service's method. Any of these "
            "tables adds the service `hooks`. See [Hooks](../operate/hooks.md). `on` has words "
            f"of: {', '.join(f'`{one.value}`' for one in HookOn)}.",
            list(key_fields(HookSpec)),
        ),
    }


# --- values as text -----------------------------------------------------------------------


def size_text(number: int) -> str:
    """Return a number of bytes with the largest unit that divides it."""
    for unit, power in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if number >> power << power == number and number:
            return f"{number >> power} {unit}"
    return f"{number:,}"


def default_toml(field: KeyField) -> str:
    """Return a key's default as TOML; empty where it has none."""
    value = field.default.value if isinstance(field.default, Enum) else field.default
    if field.key.default:
        return field.key.default
    if field.key.unset or value is msgspec.NODEFAULT:
        return ""
    return {(): "[]"}.get(value) or json.dumps(value) if value != {} else "{}"


def _number_text(field: KeyField) -> str:
    """Return the unit and the bounds of a number, and what 0 means."""
    key = field.key
    if key.above is not None:
        bounds = f"above {key.above}"
    elif key.most is not None:
        is_free = key.most >= 1_000_000_000  # a bound that no user meets
        bounds = "a whole number" if is_free else f"{key.least} to {key.most}"
    elif key.least:
        least = size_text(key.least) if key.unit == "bytes" else f"{key.least:,}"
        bounds = f"{least} or more"
    else:
        bounds = ""
    text = ", ".join(part for part in (key.unit, bounds) if part)
    return f"{text}; 0: {key.zero}" if key.zero else text


def value_text(field: KeyField) -> str:
    """Return what a key's value is, for the page."""
    kind: Any = get_origin(field.type) or field.type
    if kind is tuple and field.key.unit:
        return f"list of {field.key.unit}"
    if field.key.kind:
        return KIND_TEXTS[field.key.kind]
    if kind in {int, float}:
        return _number_text(field)
    if issubclass(kind, Enum):
        return ", ".join(f'`"{word.value}"`' for word in kind)
    return {bool: "`true` or `false`", Path: "path", dict: "table"}[kind]


# --- config.toml --------------------------------------------------------------------------


def _note(field: KeyField) -> str:
    """Return the comment behind a key: its unit and bounds, or an example."""
    if field.type in {int, float} and not field.key.kind:
        note = _number_text(field)
        is_size = field.key.unit == "bytes" and isinstance(field.default, int) and field.default
        return f"{note}; {size_text(field.default)}" if is_size else note
    if field.key.example and default_toml(field):
        return f"such as {field.key.example}"
    return ""


def _key_lines(field: KeyField, indent: str) -> list[str]:
    """Return a key with its documentation, commented out.

    Args:
        field: The key.
        indent: The text between "#" and the key; a single space marks a key to put in force, more
            mark an example.
    """
    mark = "# " if indent == " " else f"#{indent}# "
    has_fallback = field.key.unset not in {"", "none"}
    doc = field.key.doc + (f" Without it: {field.key.unset}." if has_fallback else "")
    lines = textwrap.wrap(doc, WIDTH, initial_indent=mark, subsequent_indent=mark)
    line = f"#{indent}{field.name} = {default_toml(field) or field.key.example}"
    note = _note(field)
    return [*lines, f"{line:<{NOTE_COLUMN}}# {note}" if note else line]


def _table_lines(fields: Iterable[KeyField], indent: str) -> str:
    gap = "\n\n" if indent == " " else "\n#\n"
    shown = (field for field in fields if field.key.kind != "services")
    return gap.join("\n".join(_key_lines(field, indent)) for field in shown) + "\n"


def reference_toml() -> str:
    """Return a config with every key, commented out, that runs the bundled agent."""
    tables = _tables()
    return PLACEHOLDER.sub(
        lambda found: _table_lines(tables[found[2]].keys, found[1]),
        TEMPLATE.read_text("utf-8"),
    )


# --- docs/reference/config.md -------------------------------------------------------------

HEAD = """\
# Config

Every key of `config.toml`, with its unit, its bounds and its default. `garrison check` reports a
mistake by file, line and key. `garrison config` prints the same reference as a file to edit.

Times are in seconds, sizes in bytes. A relative path begins at the folder of the file, `~` is your
home folder. A NAME has letters, digits and `. _ -` alone, at most 64 characters.

- {toc}
"""
COLUMNS = ("| key | value | default | meaning |", "|---|---|---|---|")
BUNDLED = """
## Settings of the bundled services

See [Bundled services](../guide/bundled-services.md) for what they do.

```toml
{text}
```
"""


def _default_cell(field: KeyField) -> str:
    if not (default := default_toml(field)):
        return field.key.unset
    is_size = field.key.unit == "bytes" and field.default
    return f"`{default}` ({size_text(field.default)})" if is_size else f"`{default}`"


def _markdown_table(table: Table) -> str:
    rows = [
        f"| `{field.name}` | {value_text(field)} | {_default_cell(field)} | {field.key.doc} |"
        for field in table.keys
    ]
    text = textwrap.fill(table.text, 100, break_on_hyphens=False, break_long_words=False)
    lines = ["", f"## `{table.title}`", "", text, "", *COLUMNS, *rows]
    return "".join(f"{line}\n" for line in lines)


def reference_markdown() -> str:
    """Return the page of the docs."""
    tables = _tables().values()
    anchors = [re.sub(r"[^a-z ]", "", table.title.lower()).replace(" ", "-") for table in tables]
    toc = " · ".join(
        f"[`{table.title}`](#{anchor})" for table, anchor in zip(tables, anchors, strict=True)
    )
    bundled = TEMPLATE.read_text("utf-8").partition("# Settings of the bundled")[2]
    text = bundled.partition("\n\n")[2].rstrip()
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    return HEAD.format(toc=toc) + "".join(map(_markdown_table, tables)) + BUNDLED.format(text=text)


def files() -> dict[str, str]:
    """Return the generated files: path in the repository → text."""
    return {"config.toml": reference_toml(), "docs/reference/config.md": reference_markdown()}


def main() -> None:
    """Write the generated files of this checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").exists():
        sys.exit("this is an installed package; run it in a checkout of garrison")
    for path, text in files().items():
        (root / path).write_text(text, "utf-8")


if __name__ == "__main__":
    main()
