"""The keys of a service that is a plain command, once (pure)."""

from typing import Annotated

from .keys import Key, KeyGroup


class PlainCommand(KeyGroup, frozen=True, kw_only=True):
    """A program that is run as it is, in place of a plugin's service."""

    command: Annotated[
        tuple[str, ...],
        Key(
            "A program and its arguments, to run as a service without a plugin. It runs in "
            "`working_directory`, by default this file's folder.",
            kind="command",
            own=True,
            unset="none",
            example='["node", "bot.js"]',
        ),
    ] = ()
    ready: Annotated[
        str,
        Key(
            'When the command runs: "line: TEXT" once a line of its output has the text, '
            '"port: N" once it accepts connections there, "notify" once it reports so, as under '
            "systemd.",
            kind="ready",
            own=True,
            unset="once it has run for half a second",
            example='"port: 8080"',
        ),
    ] = ""
    stop_signal: Annotated[
        str,
        Key(
            "The signal that asks the command to end. After `grace` it is killed, with all that "
            "it has started.",
            kind="signal",
            own=True,
            example='"SIGINT"',
        ),
    ] = "SIGTERM"
    health_command: Annotated[
        tuple[str, ...],
        Key(
            "A program that checks the command every `health_interval` seconds: it ends with 0 "
            "within that time, or the command is unwell.",
            kind="command",
            own=True,
            unset="none",
            example='["curl", "-fsS", "localhost:8080"]',
        ),
    ] = ()
