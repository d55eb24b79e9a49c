"""The verb that writes a config from another supervisor's file: `import`."""

import os
import shlex
import tomllib
from pathlib import Path

import click

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.cli.importing import files
from garrison.supervisor.cli.importing.program import Imported, ImportProblem
from garrison.supervisor.cli.importing.text import config_text, env_file, env_text
from garrison.supervisor.cli.render.text import sanitize

from .errors import DONE
from .init import write_files
from .output import Invocation, options
from .progress import Progress
from .project import PRIVATE, NewFile


@click.command(
    "import",
    epilog="Examples: garrison import /etc/supervisor/supervisord.conf; "
    "garrison import -o config.toml ecosystem.config.js",
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the config there, and secrets into files beside it that others cannot read. "
    "Nothing is overwritten.",
)
@click.option(
    "--env",
    "environment",
    default="",
    metavar="NAME",
    help="Take in `env_NAME` of pm2's programs.",
)
@options
def import_(invocation: Invocation, file: Path, output: Path | None, environment: str) -> int:
    """Turn supervisord's or pm2's file into a config.

    FILE is a supervisord.conf, or pm2's ecosystem.config.json or .js, which node runs. A comment
    names each key that has no counterpart.
    """
    try:
        found = _read(invocation, file, environment)
    except ImportProblem as problem:
        raise GarrisonError(f"{file} is not imported: {problem}") from None
    text = config_text(found, str(file), files=output is not None)
    tomllib.loads(text)  # what is printed can be read
    paths: list[Path] = []
    if output is not None:
        paths = write_files(output.parent, _written(found, output.name, text))
    invocation.answer(
        {
            "config": text,
            "services": [program.name for program in found.programs],
            "notes": [note for one in found.programs for note in one.notes] + found.host_notes,
            "files": [str(path) for path in paths],
        }
    )
    if output is None:
        invocation.say(sanitize(text, lines=True).rstrip("\n"))
        return DONE
    for path in paths:
        invocation.say(f"wrote {path}")
    names = ", ".join(program.name for program in found.programs)
    invocation.say(f"services: {names}; what has no counterpart is a comment")
    config = shlex.quote(str(output))
    invocation.say(f"now: garrison check -c {config} && garrison up -c {config}")
    return DONE


def _read(invocation: Invocation, file: Path, environment: str) -> Imported:
    """Read a file; show that node takes long, which runs a `.js` one."""
    if file.suffix.lower() not in files.SCRIPTS:
        return files.read(file, os.environ, environment)
    import asyncio  # slow to import

    with Progress(
        None, "running it by node", quiet=invocation.hides_progress, goes_on="nothing was written"
    ) as shown:
        reading = asyncio.to_thread(files.read, file, os.environ, environment)
        return asyncio.run(shown.during(reading))


def _written(found: Imported, name: str, text: str) -> dict[str, NewFile]:
    """Return the files to write, by name."""
    secret = {
        env_file(program): NewFile(env_text(program), PRIVATE)
        for program in found.programs
        if program.secrets
    }
    return {name: NewFile(text), **secret}
