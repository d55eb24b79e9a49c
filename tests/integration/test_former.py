"""What version 0.1.0 left is taken over: a running host, its files, and the JSON that scripts read.

`tests/former` has that version's wheel, the files that a host of it wrote, and every place in the
answers of its command line.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import msgspec
import pytest
from tests.support.answers import PLUGINS, Scenario, paths
from tests.support.commands import inherited
from tests.support.host import ROOT, SERVICES, Host, Hosting, found

from garrison.supervisor.crashes.report import CrashReport
from garrison.supervisor.state.orders import OperatorOrders
from garrison.supervisor.state.snapshot import StoredSnapshot

FORMER = ROOT / "tests" / "former"
# Places that depend on the moment: what a service reports of itself, and how calls ended.
MOMENTARY = re.compile(r"\.(outcomes|facts|health|attributes|threads)\.|\.warnings\[")
STATUS = ("status", "status NAME", "up")  # commands that answer with the supervisor's row
HEAD = (
    "config_rejected",
    "cpu_seconds",
    "installed",
    "upgrade_pending",
    "pid_namespace",
    "not_preloaded",
    "nodes",
    *("disk", "disk.folder", "disk.free_bytes", "disk.limit_bytes", "disk.low"),
)
# What a service was started with has a place for each of its settings.
ADDED_WITH = re.compile(r"(\.started(?:_with)?|\.differs|\.secrets)\b.*")
ADDED: set[str] = {  # places that answers have since; each was added on purpose
    ".check.data.longest_stop",
    ".check.data.files[]",
    ".check.data.files",
    ".check.data.overridden",
    ".status.data.supervisor.config_paths",
    ".status.data.supervisor.config_paths[]",
    ".status NAME.data.supervisor.config_paths",
    ".status NAME.data.supervisor.config_paths[]",
    ".up.data.supervisor.config_paths",
    ".up.data.supervisor.config_paths[]",
    *(f".{v}.data.{key}" for v in STATUS[:2] for key in ("pending_host", "problems")),
    ".status.data.pending",
    ".status NAME.data.pending",
    ".check.data.would_not_start",
    *(".deaths/ID.json.node", ".death.data.node", ".deaths.data.deaths[].node"),
    ".status NAME.data.services[].deaths[].node",
    ".living.json.services[].order",
    ".living.json.services[].order_verb",
    ".living.json.stopping",
    ".orders.json.numbers",
    ".orders.json.numbers.crash",
    ".orders.json.paused",
    ".orders.json.pauses",
    ".living.json.services[].started",
    *(
        f".status NAME.data.services[].{key}"
        for key in (
            *("bound_by", "dependents", "differs", "gate", "held_up_by", "order", "secrets"),
            *("command", "started_with", "direct_from", "direct_to"),
        )
    ),
    ".living.json.plugins.agent.services[].mail_window",
    ".living.json.services[].manifest.mail_window",
    ".living.json.plugins.eliza.services[].attributes",
    ".mail.data.damaged_count",
    ".mail.data.damaged_messages",
    ".living.json.services[].manifest.attributes",
    ".living.json.services[].manifest.serves_paused",
    ".living.json.plugins.mailbox.services[].serves_paused",
    ".living.json.services[].manifest.models[].counts",
    ".living.json.plugins.eliza.services[].models[].counts",
    *(f".{v}.data.services[].cpu_seconds" for v in (*STATUS, "restart", "start")),
    *(f".{v}.data.supervisor.{key}" for v in STATUS for key in HEAD),
    *(
        f".{v}.data.services[].{key}"
        for v in (*STATUS, "restart", "start")
        for key in (
            *("config_rejected", "link", "node", "python", "threads", "warnings"),
            *("paused", "paused_by", "paused_since", "paused_why", "reload"),
        )
    ),
    # The mailbox and the agent export what they hold of a person.
    *(f".living.json.plugins.{name}.services[].methods[].stream" for name in ("agent", "mailbox")),
    ".living.json.plugins.mailbox.services[].methods[].idempotent",
    # Bundled plugins preload their own modules.
    *(f".living.json.plugins.{name}.preload[]" for name in ("agent", "chat", "eliza", "mailbox")),
    *(
        f".events[].data<order.given>{key}"
        for key in (".data", ".data.names", ".data.uid", ".data.user", ".data.verb")
    ),
    *(f".events[].data<order.given>.{key}" for key in ("event", "n", "service", "time")),
    *(
        f".events[].data<preload.done>{key}"
        for key in (
            ".n",
            ".time",
            ".event",
            ".service",
            ".data",
            ".data.modules",
            ".data.took_s",
        )
    ),
}
CONFIG = """
[plugins.echo]
[plugins.leak]
[services.other]
plugin = "echo"
type = "echo"
"""


@pytest.fixture(scope="module")
def former(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return an interpreter whose garrison is version 0.1.0."""
    folder = tmp_path_factory.mktemp("former")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    (packages,) = (folder / "lib").glob("python*/site-packages")
    (wheel,) = FORMER.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        file.extractall(packages)
    # Its dependencies are this interpreter's; a path in a .pth file comes behind its own packages.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(python)


def module_folder(python: str) -> Path:
    """Return where an interpreter imports garrison's supervisor from."""
    code = "import garrison.supervisor as s; print(next(iter(s.__path__)))"
    done = subprocess.run(
        [python, "-P", "-c", code], env=without_path(), capture_output=True, text=True, check=True
    )
    return Path(done.stdout.strip())


def without_path() -> dict[str, str]:
    """Return the environment without PYTHONPATH: each interpreter has its own garrison."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def test_the_former_interpreter_is_another_version(former: str) -> None:
    """The tests below compare two versions, not one with itself."""
    assert (module_folder(former) / "engine.py").exists()
    assert not (module_folder(sys.executable) / "engine.py").exists()


async def test_a_former_host_is_upgraded_without_a_restart(host: Hosting, former: str) -> None:
    """Its launcher, its workers and its programs go on; what starts next has the new code."""
    one = host(CONFIG, ["echo", "leak"], env={"PYTHONPATH": ""}, up=False)
    one.python = former
    one.up()
    before = {name: row["pid"] for name, row in one.rows().items()}
    assert len(before) == 3
    async with one.connect() as client:
        other = found(client, "other")
        assert await other.pid() == before["other"]

        one.python = sys.executable
        ran = await asyncio.to_thread(one.run, "upgrade", json=True)

        assert ran.code == 0, ran
        assert {name: row["pid"] for name, row in one.rows().items()} == before
        assert await other.pid() == before["other"]
    old = one.kill("other")
    one.until_reborn("other", old)
    assert one.run("restart", "leak").code == 0
    assert any(b"garrison.supervisor.processes.launcher" in words for words in commands(one))


def commands(host: Host) -> list[bytes]:
    """Return the command lines of a host's processes, of those that have not ended meanwhile."""
    found = list[bytes]()
    for pid in host.processes():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return found


def test_a_killed_former_supervisor_is_followed(host: Hosting, former: str) -> None:
    """What a killed supervisor of the former version left is adopted by `up`."""
    one = host(CONFIG, ["echo", "leak"], env={"PYTHONPATH": ""}, up=False)
    one.python = former
    one.up()
    before = {name: row["pid"] for name, row in one.rows().items()}
    one.end(9)
    one.python = sys.executable
    one.up()
    assert {name: row["pid"] for name, row in one.rows().items()} == before


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("living.json", StoredSnapshot),
        ("crash-1.json", CrashReport),
        ("orders.json", OperatorOrders),
    ],
)
def test_files_keep_their_format(name: str, kind: type[msgspec.Struct]) -> None:
    """What version 0.1.0 wrote is read, and written again with the same names and values. What it
    does not know, it ignores."""
    text = (FORMER / name).read_bytes()
    before = json.loads(text)
    written = json.loads(msgspec.json.encode(msgspec.json.decode(text, type=kind)))
    assert {key: written[key] for key in before} == before


def test_answers_keep_their_places(short_path: Path) -> None:
    """A script that reads `--json` finds every value where it was, and of the same kind."""
    for name in PLUGINS:
        shutil.copy(SERVICES / f"{name}.py", short_path)
    answers = Scenario(short_path, sys.executable, inherited()).collect()

    now = {path: kinds for path, kinds in paths(answers).items() if not MOMENTARY.search(path)}
    recorded = json.loads((FORMER / "answers.json").read_text())
    then = {path: kinds for path, kinds in recorded.items() if not MOMENTARY.search(path)}
    missing = {path for path, kinds in then.items() if not kinds.endswith("?")} - set(now)
    assert missing == set()
    added = {ADDED_WITH.sub(r"\1", path) for path in set(now) - set(then)}
    assert added == ADDED
    for path, kinds in now.items():
        before = set(then.get(path, "").replace("?", "").split()) - {"null"}
        assert not (kinds and before) or kinds & before, f"{path}: {before} became {kinds}"
