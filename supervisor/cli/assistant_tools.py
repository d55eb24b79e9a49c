"""The tools that `garrison mcp` offers: each is a verb with typed arguments. Pure.

An assistant is not trusted like an operator: what it may do is listed here tool by tool, and
nothing that it sends becomes an option of a command line unless its tool has that option.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

NAME_MOST = 200  # characters of a NAME, an id or a pattern
NAMES_MOST = 50
LINES_MOST = 500
TEXT_MOST = 500  # characters of a regular expression, a time or a reason
ANSWER_MOST = 40_000  # characters of a tool's answer; a longer one is cut, and ends with a note
READ_S, ACT_S = 30.0, 120.0  # for a verb that reads, and for one that does something
WHY = "an assistant"  # what every order's reason begins with


class WrongArguments(Exception):
    """What a tool was given, and what it takes instead."""


class Argument(NamedTuple):
    """One argument of a tool.

    Attributes:
        schema: Its JSON Schema.
        words: The words of the command line that a value becomes.
        required: Whether a tool needs it.
        trailing: Whether its words come last, behind `--`.
        otherwise: The words of the command line without a value.
    """

    schema: dict[str, Any]
    words: Callable[[Any], list[str]]
    required: bool = False
    trailing: bool = False
    otherwise: tuple[str, ...] = ()


def _text(description: str, most: int = NAME_MOST, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, "minLength": 1, "maxLength": most, **more}


def _names(description: str, required: bool = False) -> Argument:
    schema = {
        "type": "array",
        "items": _text("a NAME, or a pattern such as bots.*"),
        "description": description,
        "maxItems": NAMES_MOST,
        **({"minItems": 1} if required else {}),
    }
    return Argument(schema, list, required, trailing=True)


def _name(description: str, required: bool = True) -> Argument:
    return Argument(_text(description), lambda value: [value], required, trailing=True)


def _option(option: str, schema: dict[str, Any]) -> Argument:
    # With `=`, a value that begins with a dash is no option of its own.
    return Argument(schema, lambda value: [f"{option}={value}"])


def _count(description: str, most: int, option: str = "-n") -> Argument:
    schema = {"type": "integer", "description": description, "minimum": 1, "maximum": most}
    return Argument(schema, lambda value: [f"{option}{value}"])


NAMES = {"names": _names("which services; all without it")}
SPAN = {
    "last": _count("how many, the last", LINES_MOST),
    "since": _option("--since", _text("10m, 2h (ago), 14:05, 2026-05-06 or 2026-05-06T14:05", 40)),
    "until": _option("--until", _text("as since", 40)),
    "grep": _option("--grep", _text("a regular expression that they contain", TEXT_MOST)),
}
REASON = {
    "why": Argument(
        _text("why; the events of the host show it", TEXT_MOST),
        lambda value: [f"--why={WHY}: {value}"],
        otherwise=(f"--why={WHY}",),
    )
}


class Tool(NamedTuple):
    """One tool.

    Attributes:
        verb: The words of its verb.
        description: What it does, and when to use it.
        arguments: By name.
        acts: Whether it changes something, so that it has to be allowed.
        destroys: Whether what it changes cannot be had back.
        is_text: Whether its output is text for people rather than JSON.
        reads_config: Whether it reads the config on disk.
    """

    verb: tuple[str, ...]
    description: str
    arguments: Mapping[str, Argument] = {}
    acts: bool = False
    destroys: bool = False
    is_text: bool = False
    reads_config: bool = False

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of its arguments."""
        return {
            "type": "object",
            "properties": {name: one.schema for name, one in self.arguments.items()},
            "required": [name for name, one in self.arguments.items() if one.required],
            "additionalProperties": False,
        }

    def deadline(self) -> float:
        """Return the seconds that it may take."""
        return ACT_S if self.acts else READ_S


READING = {
    "status": Tool(
        ("status",),
        "All services with state, reason, restarts and memory; every detail of those named. Use it "
        "first.",
        NAMES,
    ),
    "why": Tool(
        ("why",),
        "Why a service is as it is: the chain of causes, and what mends it.",
        {"name": _name("a NAME")},
    ),
    "logs": Tool(
        ("logs",),
        "Lines that services wrote, merged by time.",
        {**NAMES, **SPAN},
        is_text=True,
    ),
    "events": Tool(
        ("events",),
        "What happened to services: states, orders and by whom, deaths, problems.",
        {**NAMES, **SPAN},
        is_text=True,
    ),
    "deaths": Tool(("deaths",), "Crashes of services, the latest last.", {**NAMES, **SPAN}),
    "death": Tool(
        ("death",),
        "One crash report: cause, stacks, last messages, last lines of the log.",
        {"id": _name("id of a crash, or the NAME of a service for its latest")},
    ),
    "stack": Tool(
        ("stack",),
        "Where the threads and tasks of a running service are.",
        {"name": _name("a NAME")},
    ),
    "check": Tool(
        ("check",), "What is wrong with the config on disk. Starts no service.", reads_config=True
    ),
    "diff": Tool(("diff",), "What differs between the config and code on disk and what runs."),
    "doctor": Tool(
        ("doctor",), "What this machine lacks for the host, and what mends it.", reads_config=True
    ),
    "probe": Tool(
        ("probe",),
        "Whether a chat platform receives, now.",
        {"name": _name("NAME of a platform")},
    ),
    "answers": Tool(
        ("answer",),
        "The latest answers of agents; of one message, room or answer, why it was answered so.",
        {
            "of": _name("id of a message or response, or NAME/ROOM", required=False),
            "last": _count("how many, the latest", 200),
        },
    ),
    "mail": Tool(
        ("mail", "ls"),
        "Messages that wait for their receivers, and dead letters with their errors.",
        {
            "receiver": _name("NAME of one receiver", required=False),
            "last": _count("how many of each state, the oldest", LINES_MOST),
        },
    ),
    "tasks": Tool(
        ("tasks", "ls"),
        "Tasks of agents: when they are due, and how they ended.",
        {
            "status": _option("--status", _text("pending, running, paused, failed or done", 20)),
            "last": _count("how many", LINES_MOST),
        },
    ),
    "metrics": Tool(
        ("metrics",), "Metrics of host and services as OpenMetrics text.", is_text=True
    ),
    "docs": Tool(
        ("docs",),
        "The pages of the manual, or one of them.",
        {"page": _name("name of a page, such as operate/limits", required=False)},
        is_text=True,
    ),
}

_REQUIRED = {"names": _names("which services", required=True)}
_ID = {"ids": _names("ids, as the list shows them", required=True)}

ACTING = {
    "start": Tool(("start",), "Start services.", {**_REQUIRED, **REASON}, acts=True),
    "stop": Tool(
        ("stop",),
        "Stop services, with those that depend on them. They stay stopped.",
        {**_REQUIRED, **REASON},
        acts=True,
        destroys=True,
    ),
    "restart": Tool(
        ("restart",),
        "Restart services with the code and config on disk.",
        {**_REQUIRED, **REASON},
        acts=True,
        destroys=True,
    ),
    "reset": Tool(
        ("reset",),
        "Let services that gave up be started again.",
        _REQUIRED,
        acts=True,
    ),
    "pause": Tool(
        ("pause",),
        "Have services stay connected and take nothing.",
        {**_REQUIRED, **REASON},
        acts=True,
    ),
    "resume": Tool(("resume",), "End a pause.", {**_REQUIRED, **REASON}, acts=True),
    "apply": Tool(
        ("apply",),
        "Do what diff shows, of all or of the services named.",
        {**NAMES, **REASON},
        acts=True,
        destroys=True,
    ),
    "mail_replay": Tool(("mail", "replay"), "Deliver dead letters again.", _ID, acts=True),
    "mail_drop": Tool(("mail", "drop"), "Delete messages.", _ID, acts=True, destroys=True),
    "tasks_run": Tool(("tasks", "run"), "Run tasks now.", _ID, acts=True),
    "tasks_pause": Tool(("tasks", "pause"), "Keep tasks from running.", _ID, acts=True),
    "tasks_resume": Tool(("tasks", "resume"), "Let paused and failed tasks run.", _ID, acts=True),
    "tasks_drop": Tool(("tasks", "drop"), "Delete tasks.", _ID, acts=True, destroys=True),
}


def allowed_actions(text: str) -> list[str]:
    """Return the actions that `--allow` names, comma-separated. Raises ValueError: no such one."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in ACTING:
            raise ValueError(f"no action {name}; there are {', '.join(ACTING)}")
    return names


def offered(allowed: list[str]) -> dict[str, Tool]:
    """Return the tools by name: all that read, and the actions that are allowed."""
    return {**READING, **{name: ACTING[name] for name in ACTING if name in allowed}}


def command(tool: Tool, given: Mapping[str, Any]) -> list[str]:
    """Return the words of a tool's command line, without `garrison`.

    Raises:
        WrongArguments: One is missing, unknown, or no value that its schema has.
    """
    words = [*tool.verb]
    trailing: list[str] = []
    for name in given:
        if name not in tool.arguments:
            known = ", ".join(tool.arguments) or "none"
            raise WrongArguments(f"no argument {name}; this tool has {known}")
    for name, argument in tool.arguments.items():
        if given.get(name) is None:
            if argument.required:
                raise WrongArguments(f"the argument {name} is missing")
            words.extend(argument.otherwise)
            continue
        _check(name, given[name], argument.schema)
        (trailing if argument.trailing else words).extend(argument.words(given[name]))
    return [*words, "--", *trailing] if trailing else words


def _check(name: str, value: Any, schema: Mapping[str, Any]) -> None:
    """Raise WrongArguments unless a value is what its schema has."""
    kind = schema["type"]
    fits: bool
    match kind:
        case "string":
            fits = isinstance(value, str) and 1 <= len(value) <= schema["maxLength"]
            fits = fits and "\0" not in value
            wanted = f"a text of 1 to {schema['maxLength']} characters"
        case "integer":
            fits = isinstance(value, int) and not isinstance(value, bool)
            fits = fits and schema["minimum"] <= value <= schema["maximum"]
            wanted = f"a whole number from {schema['minimum']} to {schema['maximum']}"
        case "boolean":
            fits, wanted = isinstance(value, bool), "true or false"
        case _:
            least = schema.get("minItems", 0)
            fits = isinstance(value, list) and least <= len(value) <= schema["maxItems"]
            wanted = f"a list of {least} to {schema['maxItems']} texts"
            if fits:
                for one in value:
                    _check(name, one, schema["items"])
    if not fits:
        raise WrongArguments(f"the argument {name} must be {wanted}")


_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


def shortened(text: str) -> str:
    """Return an answer without colours, and cut where it is too long."""
    text = _ESCAPES.sub("", text).rstrip()
    if len(text) <= ANSWER_MOST:
        return text
    note = f"the first {ANSWER_MOST} of {len(text)} characters; name services, or use since or last"
    return f"{text[:ANSWER_MOST]}\n[cut: {note}]"
