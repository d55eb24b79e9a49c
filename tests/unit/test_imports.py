"""Who may import whom, read from the code itself."""

import ast
import subprocess
import sys
from collections.abc import Iterable

import pytest
from tests.support.sources import FILES, IMPORTS, NODES, each_of

pytestmark = pytest.mark.xdist_group("sources")  # parsed once


def of(names: set[str], *modules: str) -> set[str]:
    """Return those names that are one of these modules, or in it."""
    return {name for name in names if any(f"{name}.".startswith(f"{m}.") for m in modules)}


def test_there_is_something_to_read() -> None:
    """The rules below are about files that were found, and imports that were seen."""
    assert {
        "ipc/calls.py",
        "supervisor/cli/__init__.py",
        "workers/services/eliza/__init__.py",
    } <= set(FILES)
    assert "garrison.ipc.messages.State" in IMPORTS["supervisor/lifecycle/policy.py"]
    assert "garrison.ipc.messages.Token" in IMPORTS["ipc/calls.py"]


@each_of([name for name in FILES if name.startswith("ipc/")])
def test_ipc_knows_neither_side(name: str) -> None:
    """What both speak imports nothing of either."""
    assert of(IMPORTS[name], "garrison.supervisor", "garrison.workers") == set()


@each_of([name for name in FILES if name.startswith("workers/")])
def test_workers_know_nothing_of_the_supervisor(name: str) -> None:
    """A worker has the language alone."""
    assert of(IMPORTS[name], "garrison.supervisor") == set()


@each_of([name for name in FILES if name.startswith("supervisor/")])
def test_the_supervisor_knows_nothing_of_workers(name: str) -> None:
    """The launcher alone names the worker's entry point, and nothing else of it."""
    allowed = (
        {"garrison.workers.process.main"} if name == "supervisor/processes/launcher.py" else set()
    )

    assert of(IMPORTS[name], "garrison.workers") == allowed


@each_of([name for name in FILES if name.startswith("supervisor/")])
def test_the_supervisor_has_one_loop_of_its_own(name: str) -> None:
    """No asyncio, no threads; the command line may have both, the foreground's output, the rotation
    of logs and the question for shared memory a thread each: a terminal that is paused, a slow disk
    or a process that the kernel holds stops no service."""
    own = {
        "supervisor/logs/console.py",
        "supervisor/logs/rotation.py",
        "supervisor/processes/stacks.py",
        "supervisor/processes/usage.py",
    }
    allowed = {"threading"} if name in own else set()
    if not name.startswith(("supervisor/cli/", "supervisor/chaos/")):
        assert of(IMPORTS[name], "asyncio", "threading", "concurrent", "uvloop") <= allowed


def test_the_supervisor_has_few_libraries() -> None:
    """Each of these would cost it 3 to 5 MiB, for as long as the host runs."""
    code = "import sys, garrison.supervisor.loop, garrison.supervisor.cli.host; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"asyncio", "email", "importlib.metadata", "prompt_toolkit", "rich", "ssl", "uvloop"}
    assert heavy & set(run.stdout.split()) == set()


def test_a_start_makes_few_dataclasses() -> None:
    """Each takes a millisecond to be made, a msgspec.Struct a twentieth of it."""
    code = (
        "import gc, sys, garrison.supervisor.loop, garrison.supervisor.cli.host as host\n"
        "print(*(f'{one.__module__}.{one.__name__}' for one in gc.get_objects()\n"
        "    if isinstance(one, type) and '__dataclass_fields__' in vars(one)\n"
        "    and one.__module__.startswith('garrison')))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # These have fields that their repr or a comparison leaves out, or cached properties.
    config = {"document.Document", "layers.LayeredDocument", "load.Config"}
    expected = {f"garrison.supervisor.config.{name}" for name in config}
    assert set(run.stdout.split()) - {"garrison.ipc.call_state.Peer"} == expected


def test_the_status_command_imports_little() -> None:
    """Imports are nearly all of its time: with `--home`, nothing that reads a config."""
    code = (
        "import sys, garrison.supervisor.cli.app as app\n"
        "sys.argv = ['garrison', '--home', '/nonexistent/home', 'status']\n"
        "try: app.run()\n"
        "except SystemExit as end: assert end.code == 7, end.code\n"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(run.stdout.split())
    heavy = {"asyncio", "ctypes", "difflib", "rich", "shlex", "tomllib", "uvloop", "zmq"}
    assert heavy & modules == set()
    configs = {name for name in modules if name.startswith("garrison.supervisor.config.")}
    assert configs == {f"garrison.supervisor.config.{one}" for one in ("named_home", "own_machine")}
    assert len([name for name in modules if name.startswith("garrison")]) <= 32


def test_the_launcher_is_single_threaded() -> None:
    """Only a process without threads, event loops and ZeroMQ may fork."""
    seen: set[str] = set()
    todo = ["supervisor/processes/launcher.py"]
    while todo:
        name = todo.pop()
        seen.add(name)
        names = {n for n in IMPORTS[name] if not of({n}, "garrison.workers")}
        assert of(names, "asyncio", "threading", "concurrent", "zmq", "uvloop") == set(), name
        for full in names:
            for path in (full, full.rpartition(".")[0]):
                stem = "/".join(path.split(".")[1:])
                for own in (f"{stem}.py", f"{stem}/__init__.py"):
                    if path.startswith("garrison.") and own in FILES and own not in seen:
                        todo.append(own)


PURE = [
    "ipc/call_counts.py",
    "ipc/call_context.py",
    "ipc/call_errors.py",
    "ipc/call_state.py",
    "ipc/call_rates.py",
    "ipc/call_totals.py",
    "ipc/calls.py",
    "ipc/character.py",
    "ipc/character_use.py",
    "ipc/declared_errors.py",
    "ipc/direct_state.py",
    "ipc/directory.py",
    "ipc/errors.py",
    "ipc/flight_record.py",
    "ipc/frames.py",
    "ipc/marks.py",
    "ipc/messages/assignment.py",
    "ipc/messages/control.py",
    "ipc/messages/curve_keys.py",
    "ipc/messages/data.py",
    "ipc/messages/manifest.py",
    "ipc/messages/orders.py",
    "ipc/messages/types.py",
    "ipc/redaction.py",
    "ipc/time_words.py",
    "ipc/tombstones.py",
    "ipc/tracing.py",
    "ipc/urgency.py",
    "ipc/zmtp.py",
    "supervisor/backup/manifest.py",
    "supervisor/backup/references.py",
    "supervisor/chaos/schedule.py",
    "supervisor/cli/top_rows.py",
    "supervisor/counters.py",
    "supervisor/metrics/families.py",
    "supervisor/metrics/text.py",
    "supervisor/chaos/results.py",
    "supervisor/crashes/report.py",
    "supervisor/update/journal.py",
    "supervisor/update/refusals.py",
    "supervisor/lifecycle/handle.py",
    "supervisor/lifecycle/limits.py",
    "supervisor/processes/engine.py",
    "supervisor/processes/node_assignment.py",
    "supervisor/processes/node_lease.py",
    "supervisor/processes/node_protocol.py",
    "supervisor/processes/node_stream.py",
    "supervisor/processes/node_table.py",
    "supervisor/processes/capabilities.py",
    "supervisor/lifecycle/dependencies.py",
    "supervisor/lifecycle/incarnation.py",
    "supervisor/lifecycle/order_note.py",
    "supervisor/lifecycle/pausing.py",
    "supervisor/lifecycle/policy.py",
    "supervisor/lifecycle/reloading.py",
    "supervisor/lifecycle/services.py",
    "supervisor/lifecycle/silence.py",
    "supervisor/lifecycle/start_slots.py",
    "supervisor/lifecycle/trials.py",
    "supervisor/bus/direct.py",
    "supervisor/bus/ends.py",
    "supervisor/bus/routes.py",
    "supervisor/config/cgroup_limits.py",
    "supervisor/config/keys.py",
    "supervisor/config/host_spec.py",
    "supervisor/config/engine_spec.py",
    "supervisor/config/command_spec.py",
    "supervisor/config/operators.py",
    "supervisor/control/consoles.py",
    "supervisor/control/operators.py",
    "supervisor/control/shares.py",
    "supervisor/config/spec.py",
    "supervisor/config/toml_lines.py",
    "supervisor/config/units.py",
    "supervisor/lifecycle/start_record.py",
    "workers/agents/absence.py",
    "workers/agents/cooling.py",
    "workers/agents/database/queries.py",
    "workers/agents/database/tasks.py",
    "workers/agents/fallback.py",
    "workers/agents/media.py",
    "workers/agents/model_offers.py",
    "workers/agents/models.py",
    "workers/agents/objects.py",
    "workers/agents/persons.py",
    "workers/agents/shorten.py",
    "workers/agents/tools.py",
    "workers/process/heartbeat.py",
    "supervisor/config/own_machine.py",
]
LANGUAGE = "ipc/messages.py"  # the package: its codec imports os for os.fsencode
IO = [
    "asyncio",
    "concurrent",
    "fcntl",
    "io",
    "logging",
    "multiprocess",
    "os",
    "psutil",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uvloop",
    "zmq",
]


@each_of(PURE)
def test_modules_that_decide_do_no_io(name: str) -> None:
    """No clock, no chance, no socket, no file; of garrison only others that do none."""
    assert of(IMPORTS[name], *IO) == set()
    for own in of(IMPORTS[name], "garrison"):
        paths = {"/".join(path.split(".")[1:]) + ".py" for path in (own, own.rpartition(".")[0])}
        assert paths & {*PURE, LANGUAGE}, own


@each_of(["decision", "filters", "ids", "splitting", "streams"])
def test_modules_of_platforms_that_decide_do_no_io(name: str) -> None:
    """What is sent again, and what is passed on, is decided by values alone."""
    assert of(IMPORTS[f"workers/platform/{name}.py"], *IO, "garrison.ipc") == set()


PURE_OF_SERVICES = [
    f"workers/services/{name}.py"
    for name in (
        "agent/actions",
        "agent/cache",
        "agent/character_prompt",
        "agent/knowledge",
        "agent/memory/similarity",
        "agent/placeholders",
        "agent/prompt",
        "agent/record/resume",
        "agent/record/rows",
        "agent/rooms",
        "agent/steps",
        "agent/tool_rounds",
        "anthropic/messages",
        "console/access",
        "console/action_words",
        "console/config",
        "console/answer_rows",
        "console/mail_rows",
        "console/model_rows",
        "console/history/ring",
        "console/history/summing",
        "console/live_parts",
        "console/service_rows",
        "console/talk/rooms",
        "console/task_rows",
        "console/values",
        "console/words",
        "hooks/config",
        "hooks/kinds",
        "hooks/payload",
        "hooks/throttle",
        "mcp/backoff",
        "mcp/child_environment",
        "mcp/config",
        "mcp/lines",
        "mcp/results",
        "mcp/tools",
        "model_support/failures",
        "task/missed",
        "task/scopes",
        "task/times",
        "model_support/images",
        "model_support/limiter",
        "model_support/schemas",
        "model_support/tools",
        "model_support/usage",
        "model_support/media_requests",
        "model_support/sound_formats",
        "openai/messages",
        "eliza/feature_hashing",
    )
]


@each_of(PURE_OF_SERVICES)
def test_modules_of_services_that_decide_do_no_io(name: str) -> None:
    """Of the public contract they use the types alone, and what is as pure as they are."""
    pure = {f"garrison.{name[:-3].replace('/', '.')}" for name in PURE}
    assert of(IMPORTS[name], *IO) == set()
    assert {full.rpartition(".")[0] for full in of(IMPORTS[name], "garrison.ipc")} <= pure
    types = {full for full in of(IMPORTS[name], "garrison.workers") if full[17:18].isupper()}
    others = of(IMPORTS[name], "garrison") - types - of(IMPORTS[name], "garrison.ipc")
    assert of(others, *(f"garrison.{n[:-3].replace('/', '.')}" for n in PURE_OF_SERVICES)) == others


@each_of([*PURE, *PURE_OF_SERVICES])
def test_modules_that_decide_open_nothing(name: str) -> None:
    """Nor do they print, or read what was not handed in."""
    called = {
        node.func.id
        for node in NODES[name]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }

    assert called & {"open", "print", "input", "exec", "eval", "__import__"} == set()


# The console shows what the command line does, which no other service has to do.
OF_OPERATORS = {
    f"garrison.ipc.{name}"
    for name in (
        "call_rates",
        "call_totals",
        "causes",
        "log_events",
        "log_files",
        "log_span",
        "record_pages",
        "time_words",
        "urgency",
        "verb_commands",
        "watching",
    )
}


@each_of([name for name in FILES if name.startswith("workers/services/")])
def test_bundled_services_use_the_public_contract_alone(name: str) -> None:
    """What they can do, any author can: they import the packages' public names and each other."""
    for own in of(IMPORTS[name], "garrison"):
        module = own.rpartition(".")[0]
        console = OF_OPERATORS if name.startswith("workers/services/console/") else set()
        assert module in {"garrison.ipc", "garrison.workers", *console} or module.startswith(
            ("garrison.workers.services", "garrison.workers.sqlite", "garrison.workers.children")
        ), own


LIBRARIES_WHEN_USED = {
    "supervisor/cli/assistant.py": {"mcp", "mcp_types"},
    "ipc/call_spans.py": {"opentelemetry"},  # where traces are on
    "workers/process/method_spans.py": {"opentelemetry"},
    "workers/process/span_export.py": {"opentelemetry"},
}


@each_of(list(FILES))
def test_no_library_of_a_service_is_imported_elsewhere(name: str) -> None:
    """What garrison itself needs is a short list; a service's library is its service's own."""
    own = {"garrison", "click", "msgspec", "multiprocess", "prompt_toolkit", "psutil", "rich"}
    allowed = own | {"uvloop", "zmq"} | sys.stdlib_module_names
    allowed |= LIBRARIES_WHEN_USED.get(name, set())
    if not name.startswith("workers/services/"):
        assert {full.partition(".")[0] for full in IMPORTS[name]} <= allowed


WALL = {"time", "time_ns", "localtime", "gmtime", "ctime", "asctime", "strftime", "now", "utcnow"}
WALL |= {"today", "CLOCK_REALTIME"}
# Who may know what time it is: to show it to people, in records and logs, and in names of files.
SHOWN = {
    "ipc/flight_recorder.py": {"time.time"},
    "supervisor/backup/making.py": {"datetime.now"},  # when it was made
    "supervisor/backup/placing.py": {"time.time"},  # since when services are paused
    "supervisor/backup/staging.py": {"time.time_ns"},  # against files' times; only copies more
    "supervisor/logs/console.py": {"datetime.now"},
    "supervisor/crashes/recorder.py": {"time.time"},
    "supervisor/control/commands/base.py": {"time.time"},  # of an order
    "supervisor/manager.py": {"time.time"},
    "supervisor/cli/selection.py": {"time.time"},  # of `--since 10m`
    "supervisor/logs/events.py": {"time.time"},
    "workers/agents/content.py": {"time.time"},  # of a Memory
    "workers/process/logs.py": {"time.gmtime"},  # of logging
    "workers/services/http_support/waits.py": {"time.time"},  # of a date in `Retry-After`
    "workers/services/agent/__init__.py": {"time.time"},  # of a record, and how old it is
    "workers/services/agent/answer.py": {"time.time"},  # of a record
    "workers/services/agent/owner/telling.py": {"time.time"},  # when it was told, over a restart
    "workers/services/agent/limits/gatekeeper.py": {"time.time"},  # how old a message is
    "workers/services/agent/response_sender.py": {"time.time"},  # of a record, and of a Memory
    "workers/platform/clocks.py": {"time.time"},  # across a reboot
    "workers/services/chat/__init__.py": {"time.time"},  # likewise
    "workers/services/twitter/__init__.py": {"time.time"},  # of the first start; age of a mention
    "workers/services/twitter/client.py": {"time.time"},  # compared with X's, without its date
    "workers/services/twitter/outcome.py": {"time.time"},  # likewise
    "supervisor/cli/host.py": {"time.time"},  # of a line of JSON
    "supervisor/cli/update.py": {"time.time"},  # of a record
    "supervisor/cli/person.py": {"time.time"},  # of an export
    "supervisor/state/forgotten.py": {"time.time"},  # compared with times of records
    "supervisor/cli/tasks.py": {"time.time"},  # how long until a task runs
    "workers/services/task/admin.py": {"time.time"},  # the time of a task that runs now
    "workers/services/task/claimer.py": {"time.time"},  # what is due
    "workers/services/task/runner.py": {"time.time"},  # the times of tasks are a calendar's
    "supervisor/cli/why.py": {"time.time"},  # how long ago something was
    "supervisor/cli/processes.py": {"time.time"},  # the age of a process, as the kernel has it
    "supervisor/cli/mail.py": {"time.time"},  # age of what was found damaged
    "supervisor/cli/stack.py": {"time.time"},  # how long ago a call began
    "workers/services/database/cache.py": {"time.time"},  # when a value expires, over restarts
    "workers/services/console/picture.py": {"time.time"},  # when it was taken, to show it
    "workers/services/console/pages/death.py": {"time.time"},  # how long ago something was
    "workers/services/console/pages/events.py": {"time.time", "time.gmtime", "time.strftime"},
    "workers/services/console/pages/logs.py": {"time.time", "time.gmtime", "time.strftime"},
    "workers/services/console/history/recorder.py": {"time.time"},  # times of points, over restarts
    "workers/services/console/sessions.py": {"time.time"},  # when one ends, over restarts
    "workers/services/console/pages/answers.py": {"time.time"},  # how long ago something was
    "workers/services/console/pages/chat.py": {"time.time"},  # likewise, and of a line
    "workers/services/console/pages/mail.py": {"time.time"},  # likewise
    "workers/services/console/pages/service.py": {"time.time"},  # likewise
    "workers/services/console/pages/models.py": {"time.time"},  # likewise
    "workers/services/console/pages/tasks.py": {"time.time"},  # likewise
    "workers/services/console/talk/exchange.py": {"time.time"},  # of a line
    "workers/services/console/talk/talks.py": {"time.time"},  # of a chat
    "workers/services/discord/interaction_store.py": {"time.time"},  # when a token expires
    "workers/services/discord/missed.py": {"time.time"},  # messages' ids hold their time
    "workers/services/telegram/__init__.py": {"time.time"},  # how old a message is
    "workers/services/telegram/connection.py": {"time.time"},  # since Telegram's last error
    "workers/services/database/logs.py": {"time.time"},  # of a log
    "workers/services/database/people.py": {"time.time"},  # of a record
    "workers/services/database/places.py": {"time.time"},  # of a record
    "workers/services/database/retention.py": {"time.time", "time.gmtime", "time.strftime"},
    "workers/services/database/task_statements.py": {"time.time"},  # the file's clock
    "workers/services/database/vectors.py": {"time.time"},  # of a vector
    "workers/services/database/tasks.py": {"time.time"},  # the times of tasks
    "supervisor/cli/hooks.py": {"datetime.now"},  # how long ago a delivery was
    "workers/services/hooks/runner.py": {"datetime.now"},  # of a delivery
    "workers/services/hooks/delivery.py": {"time.time"},  # which a signature has
    "workers/services/mailbox/admin.py": {"time.time"},  # age of what was found damaged
    "workers/services/mailbox/damage.py": {"time.time"},  # when it was found
    "workers/services/model_support/ledger.py": {"time.time"},  # of a budget for a day
    "workers/services/agent/limits/budget_keeper.py": {"time.time"},  # of a budget for a day
    "workers/services/model_support/usage_file.py": {"time.time"},  # of usage by hour
    "workers/sqlite/files.py": {"time.gmtime", "time.strftime"},  # name of a file
    "workers/services/agent/memory/file_database.py": {"time.time"},  # leases, across a reboot
    # what expires, likewise, and a note for its operator
    "workers/services/agent/memory/handover.py": {"time.time", "time.gmtime", "time.strftime"},
    "workers/services/mailbox/system_clock.py": {"time.time"},  # across a reboot
}
OF_A_CLOCK = {"time", "datetime", "date"}


def clocks(nodes: Iterable[ast.AST]) -> set[str]:
    """Return what a module reads the wall clock with, and what would hide that it does."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in WALL:
            base = node.value
            name = base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
            if name in OF_A_CLOCK:
                found.add(f"{name}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found |= {f"from time import {alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            renamed = [one for one in node.names if one.asname and one.name in OF_A_CLOCK]
            found |= {f"import {one.name} as {one.asname}" for one in renamed}
    return found


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import time\nwait = time.monotonic()", set()),
        ("import time\nwait = time.time()", {"time.time"}),
        ("import time\n_now = time.time", {"time.time"}),
        ("import datetime\ndatetime.datetime.now()", {"datetime.now"}),
        ("from time import time", {"from time import time"}),
        ("import time as t", {"import time as t"}),
        ("self.now() - runtime.now()", set()),
    ],
)
def test_a_reading_of_the_wall_clock_is_seen(code: str, expected: set[str]) -> None:
    """The rule below is about what is found."""
    assert clocks(ast.walk(ast.parse(code))) == expected


@each_of(list(FILES))
def test_every_decision_is_by_a_monotonic_clock(name: str) -> None:
    """The wall clock may be set at any time; who reads it does so to show it."""
    found = clocks(NODES[name])

    assert found == SHOWN.get(name, set())
