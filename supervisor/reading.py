"""Reads what a plugin offers, in a process of its own, which is ended if it takes too long."""

import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from garrison.ipc.messages import (
    Failing,
    PluginRead,
    PluginSource,
    Reading,
    Section,
    encode,
    packed,
)
from garrison.ipc.system.installed import installed_version
from garrison.supervisor.config.environment import base_environment
from garrison.supervisor.processes.inquiry import InterpreterProblem, ask

from .probes import READ_S

_decode = msgspec.msgpack.Decoder(PluginRead | Failing).decode


def read_plugin(
    source: PluginSource,
    environ: Mapping[str, str],
    config: Mapping[str, Any] | None = None,
    sections: tuple[Section, ...] = (),
    python: str = "",
) -> PluginRead | Failing:
    """Import a plugin in a process without secrets; return what it offers, or why it does not.

    Args:
        source: Where it is.
        environ: What the process is given a part of.
        config: The plugin's own, to be checked.
        sections: Those of its services, likewise.
        python: The interpreter that reads it; empty: this process's own.
    """
    environment = base_environment(environ, foreign=bool(python))
    if python:
        try:
            ask(python, environment, installed_version())
        except InterpreterProblem as error:
            return Failing("read", str(error))
    reading = Reading(
        source=source,
        token=b"",
        control="",
        env=packed(environment),
        plugin_config=dict(config or {}),
        sections=sections,
    )
    try:
        output, code = _run_reader(python or sys.executable, encode(reading), environment)
    except subprocess.TimeoutExpired:
        return Failing("read", f"its import took longer than {READ_S:g} s")
    try:
        return _decode(output)
    except msgspec.MsgspecError:
        return Failing("read", f"its process ended with code {code} while it was read")


def _run_reader(python: str, request: bytes, environment: Mapping[str, str]) -> tuple[bytes, int]:
    """Run a reader; return its output and exit code. It ends with this process, however that ends.

    Raises:
        subprocess.TimeoutExpired: It took too long.
    """
    lifeline, held = os.pipe()  # only this process has the end that it holds
    try:
        process = subprocess.Popen(
            [python, "-P", "-m", "garrison.workers.process.probe", str(lifeline)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=(lifeline,),
            start_new_session=True,
        )
        with process:
            try:
                output, _ = process.communicate(request, READ_S)
            finally:
                os.close(held)  # the reader's guard ends what is left
                held = -1
        return output, process.returncode
    finally:
        os.close(lifeline)
        if held >= 0:
            os.close(held)
