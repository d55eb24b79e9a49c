"""Which limits a machine does not support."""

from typing import Any

import pytest
from msgspec.structs import replace

from garrison.supervisor.config.spec import ServiceSpec, service_spec
from garrison.supervisor.processes.capabilities import (
    UNLIMITED,
    Capabilities,
    files_allowed,
    format_unsupported,
    unsupported_limits,
)


def spec(**keys: Any) -> ServiceSpec:
    """Return a service with these keys."""
    return service_spec(name="bot", plugin="bot", service_type="bot", **keys)


USER = Capabilities(files_hard=1024, files_most=1 << 20, nice=0, nice_least=20)
ROOT = Capabilities(
    root=True, may_resource=True, may_nice=True, files_hard=1024, files_most=1 << 20
)
LESS = replace(ROOT, may_resource=False)


@pytest.mark.parametrize(
    ("machine", "values", "keys"),
    [
        (USER, {}, []),
        (USER, {"open_files": 1024}, []),
        (USER, {"open_files": 1025}, ["open_files"]),
        (replace(USER, files_hard=UNLIMITED), {"open_files": 2000}, []),
        (replace(USER, files_hard=UNLIMITED), {"open_files": 1 << 21}, ["open_files"]),
        (ROOT, {"open_files": 1 << 20}, []),
        (ROOT, {"open_files": (1 << 20) + 1}, ["open_files"]),
        (LESS, {"open_files": 1025, "oom_score_adj": -1}, ["open_files", "oom_score_adj"]),
        (USER, {"nice": 0, "oom_score_adj": 0}, []),
        (USER, {"nice": 19, "oom_score_adj": 1000}, []),
        (USER, {"nice": -1}, ["nice"]),
        (replace(USER, nice=5), {"nice": 4}, ["nice"]),
        (replace(USER, nice_least=-5), {"nice": -5}, []),
        (replace(USER, nice_least=-5), {"nice": -6}, ["nice"]),
        (USER, {"oom_score_adj": -1}, ["oom_score_adj"]),
        (replace(USER, oom_least=100), {"oom_score_adj": 99}, ["oom_score_adj"]),
        (ROOT, {"nice": -20, "oom_score_adj": -1000}, []),
        (ROOT, {"cpu_weight": 50}, ["cpu_weight"]),
        (replace(ROOT, controllers=frozenset({"cpu"})), {"cpu_weight": 50}, []),
        (USER, {"memory_max": 1, "processes": 1, "umask": 0, "no_new_privs": True}, []),
    ],
)
def test_unsupported_limits_are_known(
    machine: Capabilities, values: dict[str, Any], keys: list[str]
) -> None:
    """For an ordinary user, for root, and for root without all capabilities. Limits that are
    measured or always granted are supported by all."""
    found = unsupported_limits(spec(**values), machine)
    assert [key for key, _ in found] == keys
    assert all(
        format_unsupported("bot", one).startswith(f"services.bot.{one[0]} cannot be")
        for one in found
    )


@pytest.mark.parametrize(
    ("wanted", "machine", "gets"),
    [(64, USER, 64), (5000, USER, 1024), (5000, ROOT, 5000), (1 << 30, ROOT, 1 << 20)],
)
def test_a_process_gets_as_many_files_as_possible(
    wanted: int, machine: Capabilities, gets: int
) -> None:
    """The smaller number of the wanted and the granted one."""
    assert files_allowed(wanted, machine) == gets


def test_the_reason_names_a_remedy() -> None:
    """It distinguishes an ordinary user from root without a capability."""
    (_, why), *_ = unsupported_limits(spec(nice=-5), USER)
    assert "an ordinary user goes no lower than 0, and -5 is asked for; it runs with 0" in why
    assert "LimitNICE=-5" in why
    (_, why), *_ = unsupported_limits(spec(open_files=2048), LESS)
    assert "root without all of its rights cannot raise that" in why
    crowded = replace(ROOT, no_controllers="other processes are in the cgroup /x (such as pid 7)")
    (_, why), *_ = unsupported_limits(spec(cpu_weight=5), crowded)
    assert why.startswith("other processes are in the cgroup /x (such as pid 7); it runs with")
