"""The verb that shows a host's metrics in OpenMetrics text: `metrics`."""

import contextlib
import os
import signal
import stat
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from garrison.ipc.errors import GarrisonError, SupervisorGone

from .client import request
from .counters import read_totals
from .errors import DONE
from .output import Invocation, options

if TYPE_CHECKING:
    from garrison.supervisor.metrics.reading import MetricsReader

NEW = ".new"  # suffix while a file is written: node_exporter reads `*.prom` alone
READABLE = 0o644  # by the user that node_exporter runs as


@click.command(
    epilog="Examples: garrison metrics; garrison metrics -o /var/lib/node_exporter/garrison.prom; "
    "garrison metrics --serve 127.0.0.1:9464"
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write them to a file, which is replaced as a whole.",
)
@click.option(
    "--serve",
    metavar="PATH|HOST:PORT",
    help="Serve them by HTTP at /metrics until Ctrl-C: on a Unix socket, or on a loopback address.",
)
@options
def metrics(invocation: Invocation, output: Path | None, serve: str | None) -> int:
    """Show metrics as OpenMetrics text.

    For Prometheus, its node_exporter, or whatever reads that format. Without a supervisor they say
    so (garrison_supervisor_up 0), and the exit code is 7.
    """
    if output is not None and serve is not None:
        raise click.UsageError("give --output or --serve, not both")
    reader = _reader(invocation)
    if serve is not None:
        with contextlib.suppress(KeyboardInterrupt):
            _serve(invocation, reader, serve)
        return DONE
    from garrison.supervisor.metrics.families import metrics_of
    from garrison.supervisor.metrics.text import flat, render

    reading = reader.read()
    families = metrics_of(reading)
    text = render(families)
    if output is not None:
        _write(output, text)
        invocation.say(f"wrote {output}")
    elif not invocation.json:
        click.echo(text, nl=False)
    if reading.status is None:
        read_totals(invocation.home)  # says why there is none
        raise SupervisorGone(str(invocation.home))
    samples = [{"name": n, "labels": labels, "value": v} for n, labels, v in flat(families)]
    invocation.answer({"samples": samples})
    return DONE


def _reader(invocation: Invocation) -> "MetricsReader":
    from garrison.supervisor.metrics.reading import MetricsReader

    home = invocation.home
    return MetricsReader(home, lambda: request(home, "status"), lambda: read_totals(home))


def _write(file: Path, text: str) -> None:
    """Replace a file as a whole, readable by others; one that is no plain file is written to."""
    try:
        if file.exists() and not stat.S_ISREG(file.stat().st_mode):  # such as /dev/stdout
            file.write_text(text)
            return
        new = file.with_name(f"{file.name}{NEW}{os.getpid()}")
        try:
            new.write_text(text)
            new.chmod(READABLE)
            new.rename(file)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise GarrisonError(f"{file} cannot be written: {error.strerror}") from error


def _serve(invocation: Invocation, reader: "MetricsReader", where: str) -> NoReturn:
    """Serve until SIGINT or SIGTERM."""
    from garrison.supervisor.metrics.families import metrics_of
    from garrison.supervisor.metrics.server import address_of, serving
    from garrison.supervisor.metrics.text import render

    address = address_of(where)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(address, lambda: render(metrics_of(reader.read()))))
        signal.signal(signal.SIGTERM, _end)
        invocation.say(f"metrics at {server.where}; end with Ctrl-C")
        while True:
            server.handle_request()


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(DONE)
