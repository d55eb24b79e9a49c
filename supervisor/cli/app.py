"""Every verb of the command line, in one file a family; each imports what it needs."""

import importlib
import sys

import click

from .output import INTERRUPTED, SETTINGS, fail, options

VERBS = {  # in the order of `garrison --help`; each is imported when it is used
    "up": "host",
    "down": "host",
    "upgrade": "host",
    "status": "services",
    "start": "services",
    "stop": "services",
    "restart": "services",
    "reset": "services",
    "wait": "services",
    "logs": "logs",
    "events": "logs",
    "deaths": "crashes",
    "death": "crashes",
    "mail": "mail",
    "chaos": "garrison.supervisor.chaos",
    "call": "call",
    "chat": "chat",
    "check": "host",
    "init": "host",
    "version": "host",
}


class LazyGroup(click.Group):
    """The verbs, loaded as they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name = VERBS[cmd_name]
        relative = name if name.startswith("garrison.") else f".{name}"
        module = importlib.import_module(relative, __package__)
        command = getattr(module, cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        import difflib

        name = args[0]
        if name not in VERBS and not name.startswith("-"):
            close = difflib.get_close_matches(name, VERBS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise click.UsageError(f"there is no verb {name}{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@options
def garrison() -> None:
    """Keep services at their posts: each in a worker process of its own, supervised.

    Exit codes: 0 done, 1 failed, 2 usage, 3 something wanted is not running (status), 4 no such
    service, death or message, 5 config unusable, 7 no supervisor, 75 timed out, 130 interrupted.
    """


def run() -> None:
    """Run a command line; an error is a sentence."""
    SETTINGS.json = "--json" in sys.argv[1:]  # an error can come before the options are read
    try:
        code = garrison.main(prog_name="garrison", standalone_mode=False)
    except click.exceptions.Exit as end:
        code = end.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        code = 2
    except (KeyboardInterrupt, click.Abort) as error:
        fail(error)
        code = INTERRUPTED
    except BrokenPipeError:  # whoever read has had enough
        sys.stderr.close()
        code = 1
    except Exception as error:  # noqa: BLE001 (an error is a sentence)
        code = fail(error)
    sys.exit(code if isinstance(code, int) else 0)
