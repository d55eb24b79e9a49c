"""Which command lines have a launcher started before their own imports."""

import pytest

from garrison.supervisor.cli import starts_host


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up --events-only",
        "up -c bot.toml --home /srv/bot",
        "--home /srv/bot up",
        "--home up up",
        "-c up --json up --strict",
        "--home=/srv/bot up",
    ],
)
def test_up_in_the_foreground_runs_a_host(line: str) -> None:
    """A host in this process has its launcher started at once, wherever the options are."""
    assert starts_host(line.split())


@pytest.mark.parametrize(
    "line",
    [
        "",
        "status",
        "--home up status",
        "call up up",
        "up --detach",  # the command that it starts runs the host
        "up --check-takeover",
        "up --help",
        "--home",
        "upgrade",
    ],
)
def test_other_command_lines_run_none(line: str) -> None:
    """No process is started for a command that does not run a host itself."""
    assert not starts_host(line.split())
