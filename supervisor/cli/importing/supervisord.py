"""Reads a `supervisord.conf` into programs. Pure: the files that it includes are handed in.

Sizes are bytes, durations are seconds.
"""

import configparser
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .program import Imported, ImportProblem, Program, is_secret, service_name

PROCESSES_MOST = 64  # of one program
EXPRESSION = re.compile(r"%\(ENV_([A-Za-z_][A-Za-z0-9_]*)\)s")
ONE_VARIABLE = re.compile(r"\s*%\(ENV_([A-Za-z_][A-Za-z0-9_]*)\)s\s*")
RESTARTS = {"true": "permanent", "false": "temporary", "unexpected": "transient"}
BOTH = "both streams are in one log, logs/NAME.log, already"
LOGS = "output is in logs/NAME.log: garrison logs NAME"
SIZES = "`[host] log_bytes` and `log_files` hold for all services"
NO_COUNTERPART = {  # key of a program → why it is left out
    "redirect_stderr": BOTH,
    "stdout_logfile": LOGS,
    "stderr_logfile": LOGS,
    "stdout_logfile_maxbytes": SIZES,
    "stderr_logfile_maxbytes": SIZES,
    "stdout_logfile_backups": SIZES,
    "stderr_logfile_backups": SIZES,
    "stdout_capture_maxbytes": "there is no capture mode",
    "stderr_capture_maxbytes": "there is no capture mode",
    "stdout_events_enabled": "there are no events of output",
    "stderr_events_enabled": "there are no events of output",
    "stdout_syslog": "output is in logs/NAME.log alone",
    "stderr_syslog": "output is in logs/NAME.log alone",
    "startretries": "a start that fails is tried again with growing pauses, without end",
    "stopasgroup": "what the command leaves behind gets SIGTERM, and is killed after `grace`",
    "killasgroup": "all that the command has started is killed with it",
    "serverurl": "a program calls garrison by its command line",
    "priority": "services start side by side; write depends_on for an order",
}
SECTIONS = {
    "unix_http_server": "garrison has a socket of its own in the home, for its user alone",
    "inet_http_server": "garrison listens on no port",
    "supervisorctl": "the command line finds the host by --home",
}


def read_supervisord(
    text: str,
    folder: Path,
    environ: Mapping[str, str],
    included: Callable[[str], Iterable[tuple[str, str]]] = lambda pattern: (),
) -> Imported:
    """Return the programs of a file.

    Args:
        text: Its text.
        folder: Its folder, absolute; `%(here)s`.
        environ: For `%(ENV_X)s`.
        included: Returns names and texts of the files that a pattern of `[include]` finds.

    Raises:
        ImportProblem: It is no file of supervisord.
    """
    parser = _parse(text, "the file")
    if parser.has_option("include", "files"):
        patterns = parser.get("include", "files").replace("%(here)s", str(folder))
        for pattern in patterns.split():
            for name, content in included(pattern):
                _add(parser, content, name)
    found, groups = Imported(), dict[str, list[str]]()
    common = dict(parser["supervisord"]) if parser.has_section("supervisord") else {}
    for section in parser.sections():
        kind, _, name = section.partition(":")
        if kind == "program" and name:
            _Reader(section, parser[section], folder, environ, common, found).read()
        elif kind == "group":
            groups[section] = parser[section].get("programs", "").replace(",", " ").split()
        elif note := _section_note(section):
            found.host_notes.append(note)
    if left := [key for key in common if key not in OF_SUPERVISORD]:
        found.host_notes.insert(0, f"[supervisord] {', '.join(left)}: {OWN_FILES}")
    if user := common.get("user"):
        note = f"[supervisord] user = {user}: garrison runs as the user who starts it"
        found.host_notes.insert(0, note)
    for section, members in groups.items():
        origins = {f"[program:{name}]" for name in members}
        names = " ".join(one.name for one in found.programs if one.origin in origins)
        note = f"[{section}]: there are no groups; name its programs: garrison restart {names}"
        found.host_notes.append(note)
    if not found.programs:
        raise ImportProblem("it has no [program:NAME]; is it a supervisord.conf?")
    return found


def _parse(text: str, name: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(
        inline_comment_prefixes=(";",), comment_prefixes=("#", ";"), strict=False
    )
    _add(parser, text, name)
    return parser


def _add(parser: configparser.RawConfigParser, text: str, name: str) -> None:
    try:
        parser.read_string(text, name)
    except configparser.Error as error:
        raise ImportProblem(f"{name} is no file of supervisord: {error.message}") from None


def _section_note(section: str) -> str:
    kind = section.partition(":")[0]
    if section in SECTIONS:
        return f"[{section}]: {SECTIONS[section]}"
    if kind == "eventlistener":
        return (
            f"[{section}]: its protocol has no counterpart; [hooks.NAME] runs a command on events: "
            "garrison docs hooks"
        )
    if kind == "fcgi-program":
        return f"[{section}]: no socket is passed to a command; let the program open its own"
    if kind == "rpcinterface":
        return f"[{section}]: there is no XML-RPC; see garrison --json"
    return "" if section in {"supervisord", "include"} else f"[{section}]: not known"


class _Reader:
    """Reads one [program:NAME], which may be several processes."""

    def __init__(
        self,
        section: str,
        keys: Mapping[str, str],
        folder: Path,
        environ: Mapping[str, str],
        common: Mapping[str, str],
        found: Imported,
    ) -> None:
        self._section, self._keys, self._folder = section, keys, folder
        self._environ, self._common, self._found = environ, common, found
        self._name = section.partition(":")[2].strip()

    def read(self) -> None:
        """Add its programs, one for each process."""
        count, first = self._number("numprocs", 1), self._number("numprocs_start", 0)
        if not 1 <= count <= PROCESSES_MOST:
            raise ImportProblem(
                f"[{self._section}] numprocs is {count}; 1 to {PROCESSES_MOST} can be imported"
            )
        taken = [one.name for one in self._found.programs]
        for number in range(first, first + count):
            wanted = self._name
            if count > 1:
                pattern = self._keys.get("process_name", "")
                if "process_num" not in pattern:
                    pattern = "%(program_name)s-%(process_num)d"
                wanted = self._expanded(pattern, number, Program("", "", []))
            program = self._program(service_name(wanted, taken), number)
            if program.name != wanted:
                program.notes.append(f"{wanted!r} cannot be a NAME here, or is taken")
            taken.append(program.name)
            self._found.programs.append(program)

    def _program(self, name: str, number: int) -> Program:
        program = Program(name, f"[{self._section}]", [])
        get = self._keys.get
        words = get("command", "")
        try:
            program.command = shlex.split(self._expanded(words, number, program))
        except ValueError as error:
            raise ImportProblem(f"[{self._section}] command: {error}") from None
        if not program.command:
            raise ImportProblem(f"[{self._section}] has no command")
        folder = get("directory") or self._common.get("directory") or str(self._folder)
        folder = self._expanded(folder, number, program)
        program.keys["working_directory"] = str(self._folder / Path(folder).expanduser())
        self._add_keys(program)
        for source in (self._common.get("environment", ""), get("environment", "")):
            self._add_environment(program, source, number)
        for key in self._keys:
            if key in NO_COUNTERPART:
                value = get(key, "").strip()
                program.notes.append(f"{key} = {value}: {NO_COUNTERPART[key]}")
            elif key not in KNOWN:
                program.notes.append(f"{key}: not known")
        return program

    def _add_keys(self, program: Program) -> None:
        get, keys = self._keys.get, program.keys
        if user := get("user"):
            keys["user"] = user
        if umask := get("umask") or self._common.get("umask"):
            keys["umask"] = umask
        if get("autostart", "true").strip().lower() in {"false", "0", "no", "off"}:
            keys["autostart"] = False
        restart = get("autorestart", "unexpected").strip().lower()
        restart = {"1": "true", "yes": "true", "on": "true"}.get(restart, restart)
        restart = {"0": "false", "no": "false", "off": "false"}.get(restart, restart)
        if (word := RESTARTS.get(restart, "transient")) != "permanent":
            keys["restart"] = word
        codes = get("exitcodes", "0").replace(" ", "")
        if codes != "0" and word == "transient":
            program.notes.append(f"exitcodes = {codes}: only 0 is an expected end")
        if signal := get("stopsignal"):
            keys["stop_signal"] = f"SIG{signal.strip().upper().removeprefix('SIG')}"
        if get("stopwaitsecs"):
            keys["grace"] = float(self._number("stopwaitsecs", 10))
        if (seconds := self._number("startsecs", 1)) > 1:
            program.notes.append(
                f"startsecs = {seconds}: it counts as running after half a second; `ready` can "
                "wait for a line of its output, or for a port"
            )
        minfds = self._common.get("minfds", "")
        if minfds.isdecimal() and int(minfds) > 1024:
            keys["open_files"] = int(minfds)

    def _add_environment(self, program: Program, text: str, number: int) -> None:
        for name, value in _pairs(text, self._section):
            if found := ONE_VARIABLE.fullmatch(value):
                source = found[1]
                if is_secret(name, "x") or is_secret(source, "x"):
                    program.granted[name] = source
                    continue
                if source == name:
                    program.keys.setdefault("pass_env", []).append(name)
                    continue
            program.set_variable(name, self._expanded(value, number, program))

    def _expanded(self, text: str, number: int, program: Program) -> str:
        """Return a text with the values of its expressions."""
        for name in EXPRESSION.findall(text):
            if name not in self._environ:
                note = f"%(ENV_{name})s is not set here: write its value in place of it"
            elif is_secret(name, self._environ[name]):
                note = (
                    f"%(ENV_{name})s looks like a secret: pass it by `secrets`, and read it there"
                )
            else:
                continue
            program.notes.append(note)
        values: dict[str, Any] = {
            "here": str(self._folder),
            "program_name": self._name,
            "group_name": self._name,
            "process_num": number,
            "numprocs": self._keys.get("numprocs", "1"),
            "host_node_name": self._environ.get("HOSTNAME", "localhost"),
            **{
                f"ENV_{name}": value
                for name, value in self._environ.items()
                if not is_secret(name, value)
            },
        }
        values = {**_Unknown.of(text, values), **values}
        try:
            return text % values
        except (ValueError, TypeError, KeyError):
            raise ImportProblem(f"[{self._section}]: {text!r} cannot be expanded") from None

    def _number(self, key: str, default: int) -> int:
        word = self._keys.get(key, str(default)).strip()
        if not word.lstrip("-").isdecimal():
            raise ImportProblem(f"[{self._section}] {key} = {word}: expected a whole number")
        return int(word)


class _Unknown:
    """Expressions without a value, which are left as they are."""

    @staticmethod
    def of(text: str, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the expressions of a text that have no value, each as its own value."""
        names = re.findall(r"%\(([A-Za-z0-9_]+)\)s", text)
        return {name: f"%({name})s" for name in names if name not in values}


OF_SUPERVISORD = {  # keys of [supervisord] that have a counterpart, for all programs
    *("directory", "user", "umask", "environment", "minfds"),
}
OWN_FILES = "garrison's own log and pid are in its home: garrison events, garrison status"
KNOWN = {
    *("command", "directory", "user", "umask", "autostart", "autorestart", "exitcodes"),
    *("stopsignal", "stopwaitsecs", "startsecs", "environment", "numprocs", "numprocs_start"),
    "process_name",
}


def _pairs(text: str, section: str) -> list[tuple[str, str]]:
    """Return the variables of `KEY="value",KEY2=value`, as supervisord reads it."""
    lexer = shlex.shlex(text, posix=True)
    lexer.wordchars += "/.+-():~@%$*[]{}&^;|<>?\\!"
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise ImportProblem(f"[{section}] environment: {error}") from None
    pairs: list[tuple[str, str]] = []
    while tokens:
        if tokens[0] == ",":
            del tokens[0]
            continue
        if len(tokens) < 2 or tokens[1] != "=":
            raise ImportProblem(f"[{section}] environment: expected KEY=VALUE at {tokens[0]!r}")
        name, rest = tokens[0], tokens[2:]
        has_value = bool(rest) and not (rest[0] == "," or (len(rest) > 1 and rest[1] == "="))
        pairs.append((name, rest[0] if has_value else ""))
        tokens = rest[1:] if has_value else rest
    return pairs
