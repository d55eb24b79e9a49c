"""Reads the files that are imported, and has `node` evaluate those in JavaScript.

Sizes are bytes, durations are seconds.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .ecosystem import read_ecosystem
from .program import Imported, ImportProblem
from .supervisord import read_supervisord

FILE_BYTES = 1 << 20
FILES_MOST = 200  # that one file includes
NODE_S = 15.0
SCRIPT = """
const fs = require("fs"), url = require("url"), path = process.argv[1];
const done = (value) => {
  value = value && value.default && !value.apps ? value.default : value;
  fs.writeSync(+process.argv[2], JSON.stringify(value === undefined ? null : value));
};
if (path.endsWith(".mjs")) import(url.pathToFileURL(path)).then(done);
else done(require(path));
"""
SCRIPTS = {".js", ".cjs", ".mjs"}


def read(path: Path, environ: Mapping[str, str], environment: str) -> Imported:
    """Return the programs of a file; its kind is known by its name.

    Args:
        path: The file.
        environ: The environment of this process.
        environment: The part `env_NAME` of pm2's programs; empty: none.

    Raises:
        ImportProblem: It cannot be imported.
    """
    folder, suffix = path.absolute().parent, path.suffix.lower()
    if suffix in {".conf", ".ini"}:
        if environment:
            raise ImportProblem("--env is for pm2's files")
        return read_supervisord(_text(path), folder, environ, lambda one: _included(folder, one))
    if suffix == ".json":
        value = _parsed(_text(path))
    elif suffix in SCRIPTS:
        _text(path)  # its errors are clearer than those of node
        value = _evaluated(path.absolute())
    else:
        raise ImportProblem(
            "its name says neither supervisord (.conf, .ini) nor pm2 (.json, .js, .cjs, .mjs)"
        )
    return read_ecosystem(value, folder, os.cpu_count() or 1, environment)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES + 1)
    except OSError as error:
        raise ImportProblem(f"it cannot be read: {error.strerror}") from error
    if len(data) > FILE_BYTES:
        raise ImportProblem(f"it is larger than {FILE_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportProblem(f"it is not UTF-8 text (byte {error.start:,})") from error


def _included(folder: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """Yield name and text of each file that a pattern of `[include]` finds."""
    absolute = Path(pattern)
    base = Path(absolute.anchor) if absolute.is_absolute() else folder
    relative = str(absolute.relative_to(absolute.anchor)) if absolute.is_absolute() else pattern
    for number, path in enumerate(sorted(base.glob(relative))):
        if number >= FILES_MOST:
            raise ImportProblem(f"[include] {pattern} finds more than {FILES_MOST} files")
        try:
            yield str(path), _text(path)
        except ImportProblem as problem:
            raise ImportProblem(f"{path}: {problem}") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImportProblem(f"it is not JSON: {error}") from None


def _evaluated(path: Path) -> Any:
    """Return what a file in JavaScript exports. Its code is run, as pm2 runs it."""
    node = shutil.which("node")
    if node is None:
        raise ImportProblem(
            "it is JavaScript, and there is no `node` in PATH to run it: install it, or export "
            "what it holds as JSON: node -p 'JSON.stringify(require(\"./ecosystem.config.js\"))'"
        )
    with tempfile.TemporaryFile() as result:
        number = result.fileno()
        try:
            ran = subprocess.run(
                [node, "-e", SCRIPT, "--", str(path), str(number)],
                cwd=path.parent,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[number],
                timeout=NODE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ImportProblem(f"node has not evaluated it within {NODE_S:g} s") from None
        if ran.returncode:
            raise ImportProblem(f"node cannot evaluate it: {_error_line(ran.stderr)}")
        result.seek(0)
        data = result.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise ImportProblem(f"what it exports is larger than {FILE_BYTES:,} bytes")
    return _parsed(data.decode("utf-8", "replace") or "null")


def _error_line(output: bytes) -> str:
    lines = output[-FILE_BYTES:].decode("utf-8", "replace").splitlines()
    errors = [line.strip() for line in lines if "Error" in line.partition(" ")[0]]
    return (errors or [line for line in lines if line.strip()] or ["no reason given"])[0][:300]
