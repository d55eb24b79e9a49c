"""The group of all verbs, each imported when it is used, and the run of one command line."""

import contextlib
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING

import click

from garrison.ipc.messages import encodable

from .errors import DONE, FAILED, INTERRUPTED
from .output import Invocation, options
from .render.lines import terminal_width
from .streams import Streams
from .verbs import VerbGroup, sections

if TYPE_CHECKING:
    from garrison.supervisor.processes.early_launcher import EarlyLauncher

# Verbs and the modules that they are in, in the order of `garrison --help`. The orders to services
# are every command of `services`: that module is imported for a verb that is not listed here.
BEFORE = {"up": "host", "down": "host", "upgrade": "host", "update": "update", "status": "status"}
ORDERS = "services"
AFTER = {
    "reload": "reloading",
    "pause": "pausing",
    "resume": "pausing",
    "diff": "changes",
    "apply": "changes",
    "probe": "probe",
    "logs": "logs",
    "events": "logs",
    "why": "why",
    "stack": "stack",
    "graph": "graph",
    "top": "top",
    "metrics": "metrics",
    "node": "node",
    "console": "console",
    "nodes": "nodes",
    "drain": "nodes",
    "deaths": "crashes",
    "death": "crashes",
    "answer": "answer",
    "mail": "mail",
    "person": "person",
    "tasks": "tasks",
    "hooks": "hooks",
    "backup": "backup",
    "restore": "backup",
    "chaos": "chaos",
    "call": "call",
    "run": "run",
    "chat": "chat",
    "check": "config",
    "config": "config",
    "init": "init",
    "import": "imports",
    "plugins": "plugins",
    "mcp": "assistant",
    "doctor": "doctor",
    "systemd": "unit",
    "completion": "shell",
    "docs": "docs",
    "version": "version",
}
HELP_LEAST, HELP_USUAL = 20, 52  # columns
SHOWING = {"status", *AFTER} - {
    "apply",
    "backup",
    "hooks",
    "chaos",
    "drain",
    "init",
    "mail",
    "node",
    "pause",
    "person",
    "reload",
    "restore",
    "resume",
    "tasks",
}  # of these, the output is the purpose


def verbs() -> list[str]:
    """Return the name of every verb, in the order of `garrison --help`."""
    module = _module(ORDERS)
    orders = [name for name, value in vars(module).items() if isinstance(value, click.Command)]
    return [*BEFORE, *orders, *AFTER]


def _module(name: str) -> object:
    return importlib.import_module(f".{name}", __package__)


class LazyGroup(VerbGroup):
    """A group that imports a verb's module when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return verbs()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _module({**BEFORE, **AFTER}.get(cmd_name, ORDERS))
        command = getattr(module, cmd_name, None) or getattr(module, f"{cmd_name}_", None)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        known = self.list_commands(ctx)
        width = max(map(len, known))
        room = max(formatter.width - 6 - width, HELP_LEAST)
        for title, names in sections(known).items():
            rows = [
                (name.ljust(width), command.get_short_help_str(room))
                for name in names
                if (command := self.get_command(ctx, name)) is not None
            ]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from .version import print_version

        print_version(ctx.ensure_object(Invocation))
        ctx.exit()


def _help_width() -> int | None:
    """Return the width of help texts in a narrow terminal, for which click has a lower bound."""
    columns = terminal_width()
    return max(columns - 1, HELP_LEAST) if columns <= HELP_USUAL else None


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "terminal_width": _help_width()},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Print the version.",
)
@options
def garrison(invocation: Invocation) -> None:
    """Run services, each in a worker process of its own, and restart those that fail.

    Exit codes: 0 done, 1 failed, 2 usage, 3 a wanted service does not run (status, up --detach) or
    would not start (check), 4 no such service, death, message or task, 5 config unusable, 7 no
    supervisor, 75 timed out, 130 interrupted.
    """
    verb = click.get_current_context().invoked_subcommand
    if verb != "up":  # which imports a supervisor first
        gc.freeze()
        gc.enable()
    invocation.acts = verb not in SHOWING
    if invocation.acts and invocation.streams is not None:
        invocation.streams.serve_command_that_acts()


def _check_words(words: list[str]) -> None:
    """Raise UsageError for a word that is no text: nothing that garrison names can be so."""
    for word in words:
        if word != encodable(word):
            shown = ascii(os.fsencode(word))[2:-1]
            text = f"the argument {shown} is not UTF-8: write names, paths and values in UTF-8"
            raise click.UsageError(text)


def _tolerate_any_text() -> None:
    """Have what the terminal's encoding lacks shown as `\\u2192`, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is closed, or its disk is full
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")


def run(streams: Streams | None = None, early: "EarlyLauncher | None" = None) -> None:
    """Run a command line, and exit with its code.

    Args:
        streams: The standard streams; without them, output is written as it is by default.
        early: A launcher for the host that the command line runs, if one was started.
    """
    # An error can occur before the options are parsed, and `--json` applies to it as well.
    invocation = Invocation(json="--json" in sys.argv[1:])
    invocation.streams, invocation.early = streams, early
    _tolerate_any_text()
    try:
        _check_words(sys.argv[1:])
        code = garrison.main(prog_name="garrison", standalone_mode=False, obj=invocation)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except (KeyboardInterrupt, click.Abort) as error:
        invocation.fail(error)
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has ended
        if streams is None:
            sys.stderr.close()
        code = 1
    except Exception as error:  # noqa: BLE001 (every error becomes a sentence)
        code = invocation.fail(error)
    code = code if isinstance(code, int) else DONE
    sys.exit(code if streams is None else _finish(invocation, streams, code))


def _finish(invocation: Invocation, streams: Streams, code: int) -> int:
    """Report output that was not written; return the exit code."""
    problem = streams.finish()
    if not problem:
        return code
    if invocation.acts:
        click.echo(f"warning: not all of the output could be written: {problem}", err=True)
        return code
    click.echo(f"error: the output could not be written: {problem}", err=True)
    return code or FAILED
