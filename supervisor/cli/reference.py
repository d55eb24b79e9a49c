"""Prints docs/reference/cli.md, from the commands themselves.

Run it as `python -m garrison.supervisor.cli.reference > docs/reference/cli.md`.
"""

import inspect
from collections.abc import Iterator

import click

from .app import garrison

HEAD = """\
# Command line

`garrison VERB` controls a host. Run it in the folder of the host's `config.toml`, or name the host
with `--home`. `garrison --help` lists the verbs, `garrison VERB --help` shows one.

A NAME is the name of a service. Where the usage shows `…`, several NAMEs and globs are accepted.
Quote a glob, so that the shell does not expand it: `garrison restart 'ada.*'`. `--json` prints what
[JSON output](json.md) describes.

A shell completes verbs, options, NAMEs, methods and crash reports after one line in its own file:

```sh
eval "$(garrison completion bash)"             # in ~/.bashrc
eval "$(garrison completion zsh)"              # in ~/.zshrc
garrison completion fish | source              # in ~/.config/fish/config.fish
```
"""

COMMON = {"--config", "--home", "--json", "--quiet", "--help"}

EXIT_CODES = (
    (0, "done"),
    (1, "failed"),
    (2, "usage: the command line itself is wrong"),
    (3, "`status`: a service that is wanted is not running"),
    (4, "there is no such service, death, message or task"),
    (5, "the config cannot be used"),
    (7, "no supervisor answers in this home"),
    (75, "timed out; an order is still carried out"),
    (130, "interrupted by Ctrl-C"),
)


def reference() -> str:
    """Return the page."""
    ctx = click.Context(garrison, info_name="garrison")
    parts = [
        HEAD,
        "## Options of every verb\n",
        "They stand before or after the verb.\n",
    ]
    parts += [_options(garrison, ctx, common=True), "## Exit codes\n"]
    rows = "\n".join(f"| {code} | {text} |" for code, text in EXIT_CODES)
    parts.append(f"| code | meaning |\n|---|---|\n{rows}\n")
    for own, command in _commands(garrison, ctx):
        parts += _section(own, command)
    return "\n".join(parts).rstrip() + "\n"


def _commands(
    group: click.Group, ctx: click.Context
) -> Iterator[tuple[click.Context, click.Command]]:
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if command is None:
            continue
        own = click.Context(command, info_name=name, parent=ctx)
        yield own, command
        if isinstance(command, click.Group):
            yield from _commands(command, own)


def _section(ctx: click.Context, command: click.Command) -> Iterator[str]:
    is_verb = ctx.parent is not None and ctx.parent.parent is None
    yield f"{'##' if is_verb else '###'} {ctx.command_path}\n"
    yield f"```text\n{ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    if table := _options(command, ctx):
        yield table
    _, _, examples = (command.epilog or "").partition(": ")
    yield "```sh\n" + "\n".join(examples.split("; ")) + "\n```\n"


def _options(command: click.Command, ctx: click.Context, common: bool = False) -> str:
    """Return the table of a command's options, without those that every verb has."""
    rows = []
    for param in command.get_params(ctx):
        if isinstance(param, click.Argument) or param.name == "version":
            continue
        record = param.get_help_record(ctx)
        is_common = not COMMON.isdisjoint(param.opts)
        if record is not None and (common or not is_common):
            text = " ".join(record[1].split()).replace("|", "\\|")
            rows.append(f"| `{record[0]}` | {text} |\n")
    return "| option | meaning |\n|---|---|\n" + "".join(rows) if rows else ""


if __name__ == "__main__":
    click.echo(reference(), nl=False)
