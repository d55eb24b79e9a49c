"""Fixtures, the hypothesis profile, and how tests are spread over processes."""

import compileall
import contextlib
import faulthandler
import functools
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from _pytest.runner import runtestprotocol
from tests.support.distribution import GroupScheduling, write_groups
from tests.support.examples import FULL
from tests.support.host import ROOT, Hosting, hosting
from tests.support.waiting import LONGEST, LONGEST_SOAK, ending_within

# A loaded machine makes any example slow, so no example has a deadline. The examples are the same
# in each run, and `.ci/run` tries more of them with `full`; `explore` tries new ones.
LOADED = [hypothesis.HealthCheck.too_slow]
for profile, most, same in (("garrison", 20, True), ("full", FULL, True), ("explore", 1000, False)):
    hypothesis.settings.register_profile(
        profile,
        deadline=None,
        suppress_health_check=LOADED,
        max_examples=most,
        derandomize=same,
        print_blob=True,
    )
hypothesis.settings.load_profile("garrison")

SLOWEST_FIRST = ("soak", "chaos", "docs", "integration", "property", "unit")  # folders
SLOWEST_FILES = ("test_ray", "test_update", "test_node_machines", "test_exactly_once")
WORKERS_MOST = 8
FOLDER = pytest.StashKey[Path]()  # of the file that says which tests share a process
# Else each process rewrites the assertions of all tests and of pytest's plugins anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
gc.disable()  # while thousands of tests are collected; hardly anything of that is garbage


# Hooks, not a fixture of each test: thousands of tests take less time than a fixture's setup.
@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test that does not end."""
    soak = item.get_closest_marker("soak") is not None
    if soak:
        faulthandler.cancel_dump_traceback_later()  # a minute is not long for these
    with ending_within(LONGEST_SOAK if soak else LONGEST):
        yield


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """In a process of xdist, send what is shown of a test: each message costs half a millisecond.

    The durations and the XML of a test need all of its reports.
    """
    option = item.config.option
    if not hasattr(item.config, "workerinput") or option.durations is not None or option.xmlpath:
        return None
    hook = item.ihook
    hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in runtestprotocol(item, log=False, nextitem=nextitem):
        if report.when == "call" or not report.passed:
            hook.pytest_runtest_logreport(report=report)
    hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    """Fail a teardown that does not end."""
    with ending_within(LONGEST):
        yield


@pytest.fixture
def host() -> Iterator[Hosting]:
    """Return a function that starts hosts for one test: `host(config, plugins=["echo"])`."""
    with contextlib.ExitStack() as stack:
        yield lambda *args, **kwargs: stack.enter_context(hosting(*args, **kwargs))


@pytest.fixture
def short_path() -> Iterator[Path]:
    """Return a temporary folder whose path leaves room for a Unix socket's name (107 bytes)."""
    path = Path(tempfile.mkdtemp(prefix="g", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


# --- processes --------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: hundreds of supervisors are started from it."""
    if config.getoption("--hypothesis-profile") is None:
        _use_no_constants()
    if not hasattr(config, "workerinput"):
        for package in ("ipc", "supervisor", "workers"):
            compileall.compile_dir(ROOT / ".src" / "garrison" / package, quiet=2)


def _use_no_constants() -> None:
    """Have hypothesis try no constants of the package: each process would parse all its files.

    The profiles that are named on the command line have them. There is no setting for it.
    """
    with contextlib.suppress(ImportError, AttributeError):  # another version of hypothesis
        from hypothesis.internal.conjecture import providers
        from hypothesis.internal.constants_ast import Constants

        setattr(providers, "_get_local_constants", Constants)  # noqa: B010 - not exported


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return the number of processes for `-n auto`: more than cores, as tests mostly wait.

    Single files run in this process, and so do soak tests.
    """
    mark = config.option.markexpr
    if "soak" in mark.split() and "not soak" not in mark:
        return 0
    if all(Path(arg.partition("::")[0]).is_file() for arg in config.args):
        return 0
    is_external = "external" in mark.split() and "not external" not in mark
    more = 1 if is_external else 2  # browsers, databases and Ray have processes of their own
    return min(len(os.sched_getaffinity(0)) + more, WORKERS_MOST)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests that share a process, and begin with the slowest groups.

    A test is a group of its own, unless it shares a host with others of its file, or is so fast
    that its whole file is a group.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None and (group := _group_of(item)):
            item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=_order_of)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Report the groups, and leave the tests out of later garbage collections."""
    if (file := getattr(session.config, "workerinput", {}).get("groups")) is not None:
        write_groups(Path(file), session.items)
    gc.freeze()
    gc.enable()


def pytest_configure_node(node: Any) -> None:
    """Tell a process where to write its groups."""
    node.workerinput["groups"] = str(_groups_file(node.config))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling | None:
    """Return the scheduler for `--dist=loadgroup`."""
    grouped = config.getoption("dist") == "loadgroup"
    return GroupScheduling(config, log, _groups_file(config)) if grouped else None


def _groups_file(config: pytest.Config) -> Path:
    if FOLDER not in config.stash:
        config.stash[FOLDER] = Path(tempfile.mkdtemp(prefix="g"))
    return config.stash[FOLDER] / "groups.json"


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the file of the groups."""
    if (folder := config.stash.get(FOLDER, None)) is not None:
        shutil.rmtree(folder, ignore_errors=True)


def _group_of(item: pytest.Item) -> str:
    file = _in_tests(item.path)
    if file.parts[0] in ("unit", "property"):
        return str(file)
    if "browser" in getattr(item, "fixturenames", ()):
        return "browser"  # of which one is enough
    shared = _shared_fixtures(item)
    return f"{item.path.stem}:{shared[0]}" if shared else ""


@functools.cache
def _in_tests(file: Path) -> Path:
    return file.relative_to(ROOT / "tests")


def _shared_fixtures(item: pytest.Item) -> list[str]:
    """Return the fixtures of a test that others of its file share."""
    definitions: dict[str, Any] = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009
    return sorted(
        name
        for name, (*_, last) in definitions.items()
        if last.scope == "module" and last.baseid == item.nodeid.partition("::")[0]
    )


def _order_of(item: pytest.Item) -> tuple[bool, bool, int]:
    folder = _in_tests(item.path).parts[0]
    place = SLOWEST_FIRST.index(folder) if folder in SLOWEST_FIRST else len(SLOWEST_FIRST)
    alone = item.get_closest_marker("xdist_group")
    is_first = alone is not None and alone.args[0] == "machine"
    return (not is_first, item.path.stem not in SLOWEST_FILES, place)


# --- what not every machine can run -------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, Any]:
    """Fail an external test that is skipped in CI: there everything must be at hand."""
    report = yield
    if report.skipped and os.environ.get("CI") and item.get_closest_marker("external"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but $CI is set: {report.longrepr}"
    return report
