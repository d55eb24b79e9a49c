"""Reads pm2's ecosystem file, given as the value that it exports. Pure.

Sizes are bytes; durations are seconds, those of pm2 milliseconds.
"""

import os.path
import re
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from .program import Imported, ImportProblem, Program, service_name

INSTANCES_MOST = 64
INTERPRETERS = {  # of a script by its ending
    **dict.fromkeys((".js", ".cjs", ".mjs"), "node"),
    **dict.fromkeys((".ts", ".tsx"), "bun"),
    ".py": "python3",
    ".sh": "bash",
    ".pl": "perl",
    ".rb": "ruby",
    ".php": "php",
    ".coffee": "coffee",
}
SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([KMG]?)B?", re.IGNORECASE)
LOGS = "output is in logs/NAME.log: garrison logs NAME"
RESTARTS = "restarts pause longer and longer; `intensity` and `period` bound them"
NO_COUNTERPART = {
    **dict.fromkeys(("error_file", "out_file", "log_file", "output", "error", "log"), LOGS),
    **dict.fromkeys(("merge_logs", "combine_logs", "log_type", "disable_logs"), LOGS),
    **dict.fromkeys(("log_date_format", "time"), "a line is kept as the command wrote it"),
    **dict.fromkeys(("max_restarts", "restart_delay", "exp_backoff_restart_delay"), RESTARTS),
    "min_uptime": "it counts as running after half a second; see `ready`",
    "cron_restart": "let cron or the service `task` run: garrison restart NAME",
    "cron": "let cron or the service `task` run: garrison restart NAME",
    "wait_ready": "there is no process.send('ready'); let `ready` wait for a line of its output",
    "pid_file": "garrison status NAME shows the pid",
    "pid": "garrison status NAME shows the pid",
    "stop_exit_codes": 'only 0 is an expected end, with restart = "transient"',
    "shutdown_with_message": "the command gets `stop_signal`",
    "namespace": "NAMEs have no groups; garrison restart takes several",
    "instance_var": "the number is in NODE_APP_INSTANCE",
    "treekill": "all that the command has started ends with it, always",
}
WATCHES = {"watch", "ignore_watch", "watch_delay", "watch_options"}
QUIET = {"vizion", "source_map_support", "disable_source_map_support", "force", "automation"}
QUIET |= {"pmx", "trace", "disable_trace", "v8", "event_loop_inspector", "deep_monitoring"}
KNOWN = {
    *("name", "script", "cmd", "interpreter", "exec_interpreter", "interpreter_args", "node_args"),
    *("args", "cwd", "env", "instances", "exec_mode", "max_memory_restart", "autorestart"),
    *("kill_timeout", "listen_timeout", "user", "uid", "gid", "increment_var", "autostart"),
}


def read_ecosystem(value: object, folder: Path, processors: int, environment: str = "") -> Imported:
    """Return the programs of a file.

    Args:
        value: What it exports.
        folder: Its folder, absolute.
        processors: What `instances: "max"` means.
        environment: The part of `env_NAME` that is merged into `env`; empty: none.

    Raises:
        ImportProblem: It is no file of pm2.
    """
    found = Imported()
    apps: Any = value
    if isinstance(value, dict):
        apps = value.get("apps", [value] if "script" in value else None)
        if "deploy" in value:
            found.host_notes.append("deploy: garrison deploys nothing; see garrison apply")
    apps = [apps] if isinstance(apps, dict) else apps
    if not isinstance(apps, list) or not apps or not all(isinstance(one, dict) for one in apps):
        raise ImportProblem("it exports no `apps`; is it an ecosystem file of pm2?")
    for index, app in enumerate(apps):
        _add_app(app, f"apps[{index}]", folder, processors, environment, found)
    return found


def _add_app(
    app: Mapping[str, Any],
    origin: str,
    folder: Path,
    processors: int,
    environment: str,
    found: Imported,
) -> None:
    script = app.get("script", app.get("cmd"))
    if not isinstance(script, str) or not script.strip():
        raise ImportProblem(f"{origin} has no `script`")
    name = str(app.get("name") or PurePath(script.split()[0]).stem)
    count = _instances(app.get("instances", 1), processors, origin)
    taken = [one.name for one in found.programs]
    for number in range(count):
        wanted = f"{name}-{number}" if count > 1 else name
        program = Program(service_name(wanted, taken), f"{origin} {name}", [])
        if program.name != wanted:
            program.notes.append(f"{wanted!r} cannot be a NAME here, or is taken")
        taken.append(program.name)
        _fill(program, app, folder, number, count, environment)
        found.programs.append(program)


def _fill(
    program: Program,
    app: Mapping[str, Any],
    folder: Path,
    number: int,
    count: int,
    environment: str,
) -> None:
    place = folder / Path(str(app.get("cwd", "."))).expanduser()
    program.keys["working_directory"] = os.path.normpath(place)
    program.command = _command(app, program)
    program.keys["stop_signal"] = "SIGINT"  # what pm2 sends
    if app.get("autorestart") is False:
        program.keys["restart"] = "temporary"
    if app.get("autostart") is False:
        program.keys["autostart"] = False
    for key, target in (("kill_timeout", "grace"), ("listen_timeout", "start_timeout")):
        if isinstance(value := app.get(key), int | float) and value > 0:
            program.keys[target] = value / 1000
    if user := app.get("user", app.get("uid")):
        program.keys["user"] = str(user)
    if group := app.get("gid"):
        program.keys["group"] = str(group)
    if "max_memory_restart" in app:
        program.keys["memory_max"] = _size(app["max_memory_restart"], program.origin)
    _add_env(program, app, number, count, environment)
    if count > 1 and str(app.get("exec_mode", "")).startswith("cluster"):
        program.notes.append(
            "exec_mode = cluster: no port is shared; give each instance its own, behind a proxy"
        )
    _add_notes(program, app, environment)


def _command(app: Mapping[str, Any], program: Program) -> list[str]:
    script = str(app.get("script", app.get("cmd")))
    interpreter = app.get("interpreter", app.get("exec_interpreter"))
    if interpreter is None:
        interpreter = INTERPRETERS.get(PurePath(script).suffix.lower(), "none")
    options = _words(app.get("interpreter_args", app.get("node_args")), program.origin)
    words = [script]
    if interpreter == "none" and " " in script:
        words = _words(script, program.origin)
    before = [] if interpreter == "none" else [str(interpreter), *options]
    if not before and "/" not in words[0] and "." in words[0]:
        words[0] = f"./{words[0]}"
    return [*before, *words, *_words(app.get("args"), program.origin)]


def _words(value: object, origin: str) -> list[str]:
    if value is None:
        return []
    if isinstance(value, list):
        return [str(one) for one in value]
    try:
        return shlex.split(str(value))
    except ValueError as error:
        raise ImportProblem(f"{origin}: {value!r}: {error}") from None


def _add_env(
    program: Program, app: Mapping[str, Any], number: int, count: int, environment: str
) -> None:
    chosen = [app.get("env")]
    if environment:
        chosen.append(app.get(f"env_{environment}"))
    variables: dict[str, Any] = {}
    for part in chosen:
        if isinstance(part, dict):
            variables |= part
    if count > 1:
        variables["NODE_APP_INSTANCE"] = number
        counted = app.get("increment_var")
        if isinstance(counted, str) and str(variables.get(counted, "")).isdecimal():
            variables[counted] = int(variables[counted]) + number
    for name, value in variables.items():
        program.set_variable(name, _text(value))


def _text(value: object) -> str:
    """Return a value as JavaScript makes a text of it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _add_notes(program: Program, app: Mapping[str, Any], environment: str) -> None:
    for key, value in app.items():
        if key in WATCHES:
            if value and key == "watch":
                note = "no file is watched: garrison apply restarts what has changed"
                program.notes.append(f"watch: {note}")
        elif key in NO_COUNTERPART:
            if value not in (False, None):
                program.notes.append(f"{key}: {NO_COUNTERPART[key]}")
        elif key.startswith("env_"):
            if key != f"env_{environment}":
                chosen = key.removeprefix("env_")
                program.notes.append(f"{key}: garrison import --env {chosen} takes it in")
        elif key not in KNOWN | QUIET:
            program.notes.append(f"{key}: not known")


def _instances(value: object, processors: int, origin: str) -> int:
    word = str(value).strip()
    if word in {"max", "0"}:
        return max(processors, 1)
    if not re.fullmatch(r"-?[0-9]{1,4}", word):
        raise ImportProblem(f'{origin} instances is {value!r}; expected a number, or "max"')
    count = int(word) if int(word) > 0 else processors + int(word)
    if count > INSTANCES_MOST:
        raise ImportProblem(
            f"{origin} instances is {count}; at most {INSTANCES_MOST} can be imported"
        )
    return max(count, 1)


def _size(value: object, origin: str) -> int:
    found = SIZE.fullmatch(str(value).strip())
    if found is None:
        raise ImportProblem(f'{origin} max_memory_restart is {value!r}; expected such as "300M"')
    size = int(float(found[1]) * 1024 ** " KMG".index(found[2].upper() or " "))
    return max(size, 1 << 20)
