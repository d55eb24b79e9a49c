"""The verb that prints what a shell needs to complete garrison's words: `completion`."""

import click
from click.shell_completion import get_completion_class

from .errors import DONE
from .output import Invocation, options

SHELLS = ("bash", "zsh", "fish")
PROGRAM, VARIABLE = "garrison", "_GARRISON_COMPLETE"


@click.command(epilog='Example: eval "$(garrison completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@options
def completion(invocation: Invocation, shell: str) -> int:
    """Print what a shell completes words with.

    In ~/.bashrc or ~/.zshrc: eval "$(garrison completion bash)". In fish: garrison completion fish
    | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # click has one for each
    text = kind(click.get_current_context().find_root().command, {}, PROGRAM, VARIABLE).source()
    invocation.answer({"shell": shell, "script": text})
    invocation.say(text.rstrip())
    return DONE
