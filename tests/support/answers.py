"""Runs a small host by its command line alone, and collects every answer and file that it leaves.

The same scenario can be run by another version's interpreter, so that two versions' answers can be
compared. `shape` reduces a value to what a reader of the JSON relies on: names and types.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.commands import run_forked
from tests.support.waiting import until

CONFIG = """
[host]
chaos = true

[plugins.echo]
[plugins.crash]
[plugins.chat]
[plugins.agent]
[plugins.eliza]
[plugins.mailbox]

[services.crash]
depends_on = ["echo"]
secrets = { TOKEN = "SCENARIO_TOKEN" }
memory_max = 209715200
[services.echo]
grace = 2
"""
PLUGINS = ("echo", "crash")


class Scenario:
    """One host that another interpreter may run.

    Args:
        folder: Where its config is.
        python: The interpreter whose garrison is run.
        environ: The environment of its commands.
    """

    def __init__(self, folder: Path, python: str, environ: dict[str, str]) -> None:
        self.folder, self.python = folder, python
        self.environ = {**environ, "SCENARIO_TOKEN": "cAnary-5b1e"}
        (folder / "config.toml").write_text(CONFIG)

    def run(self, *words: str, code: int = 0, or_code: int | None = None) -> Any:
        """Return what a verb answers with `--json`: one value, or a list where it prints lines."""
        if self.python == sys.executable:
            done = run_forked(["--json", *words], self.folder, self.environ)
        else:
            done = subprocess.run(
                [self.python, "-P", "-m", "garrison.supervisor.cli", "--json", *words],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert done.returncode in {code, or_code}, done
        values = [json.loads(line) for line in done.stdout.splitlines()]
        return values[0] if len(values) == 1 else values

    def collect(self) -> dict[str, Any]:
        """Run everything once; return answers by verb, and the files that are formats."""
        answers: dict[str, Any] = {"check": self.run("check")}
        up = self.run("up", "--detach")
        home = self.folder / ".garrison"
        try:
            answers["up"] = up
            answers["call"] = self.run("call", "echo", "echo", '["x"]')
            answers["status"] = self.run("status")
            (row,) = (r for r in answers["status"]["data"]["services"] if r["name"] == "crash")
            os.kill(row["pid"], signal.SIGKILL)
            until(lambda: self._runs_again(row["pid"]), what="crash runs again")
            answers["deaths"] = self.run("deaths")
            answers["death"] = self.run("death", "crash")
            answers["status NAME"] = self.run("status", "crash")
            answers["stop"] = self.run("stop", "crash")
            answers["start"] = self.run("start", "crash")
            answers["restart"] = self.run("restart", "chat")
            answers["reset"] = self.run("reset", "chat")
            answers["no such service"] = self.run("status", "nix", code=4)
            answers["mail"] = self.run("mail", "ls")
            answers["events"] = self.run("events", "-n", "200")
            answers["version"] = self.run("version")
            answers["chaos"] = self.run("chaos", "--kills", "3", "--callers", "2")
            answers["living.json"] = json.loads((home / "state" / "living.json").read_text())
            (file,) = (home / "state" / "deaths").glob("crash-1.json")
            answers["deaths/ID.json"] = json.loads(file.read_text())
            answers["orders.json"] = json.loads((home / "state" / "orders.json").read_text())
        finally:
            answers["down"] = self.run("down")
        return answers

    def _runs_again(self, old: int) -> bool:
        (row,) = self.run("status", "crash", or_code=3)["data"]["services"]  # 3: not yet
        return row["state"] == "running" and row["pid"] not in {None, old}


def paths(value: Any, path: str = "") -> dict[str, set[str]]:
    """Return every place in a value, by its path, with the kinds of value that stand there.

    Elements of a list share one path; an event's are apart by the event's name. None is no kind:
    what is None at one moment is something at another.
    """
    found: dict[str, set[str]] = {path: set()}
    match value:
        case dict():
            if "event" in value:
                path = f"{path}<{value['event']}>"
            parts = [paths(one, f"{path}.{key}") for key, one in value.items()]
        case list():
            parts = [paths(one, f"{path}[]") for one in value]
        case None:
            parts = []
        case bool() | str():
            parts = [{path: {type(value).__name__}}]
        case _:
            parts = [{path: {"number"}}]
    for part in parts:
        for where, kinds in part.items():
            found.setdefault(where, set()).update(kinds)
    return found
