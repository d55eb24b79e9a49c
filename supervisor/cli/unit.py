"""The verb that writes a systemd unit for a host: `systemd`."""

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from garrison.ipc.errors import GarrisonError
from garrison.supervisor.config.load import Config, load

from .errors import DONE
from .output import Invocation, options

SUBGROUP_FROM = 254  # version of systemd that knows DelegateSubgroup
STOP_MARGIN_S = 15  # beside the graces of the services: to end what is left, and to write
VERSION_S = 5.0  # for systemctl to print its version
WATCHDOG_S = 60
NODE_STOP_S = 40  # for services of a node to move, and for those that cannot to end in order
SYSTEM_UNITS = Path("/etc/systemd/system")
USER_UNITS = Path("~/.config/systemd/user")
NAME = re.compile(r"[^A-Za-z0-9:_.@-]+")

UNIT = """\
[Unit]
Description=garrison of {folder}
Documentation=man:systemd.service(5)
{network}# A supervisor that cannot start is tried for a minute.
StartLimitIntervalSec=60
StartLimitBurst=60

[Service]
Type=notify
{user}WorkingDirectory={folder}
ExecStart={command} --home {home} up --config {config}
ExecReload={command} --home {home} upgrade
ExecStop={command} --home {home} down
# The services outlive a killed supervisor, and the next one adopts them.
KillMode=process
Restart=on-failure
RestartSec=1
# A config that cannot be used is not tried again.
RestartPreventExitStatus=5
WatchdogSec={watchdog}
TimeoutStopSec={stop}
Delegate=cpu memory pids
{subgroup}LimitNOFILE=65536
{credentials}
[Install]
WantedBy={target}
"""


NETWORK = "After=network-online.target\nWants=network-online.target\n"
NODE_UNIT = """\
[Unit]
Description=garrison node {name}
Documentation=man:systemd.service(5)
{network}StartLimitIntervalSec=0

[Service]
Type=notify
{user}WorkingDirectory={folder}
ExecStart={command} --home {home} node --key {key}
# The services outlive a killed node process, and the next one adopts them within the lease.
KillMode=process
Restart=always
RestartSec=1
# It is ready once it has contact, which may take as long as the supervisor is away.
TimeoutStartSec=infinity
TimeoutStopSec={stop}
Delegate=cpu memory pids
LimitNOFILE=65536

[Install]
WantedBy={target}
"""


class UnitPlan(NamedTuple):
    """What a unit depends on."""

    config: Path
    python: str
    home: Path
    stop_s: float  # longest ordered stop
    secrets: tuple[str, ...]
    user: str  # that the host runs as; empty: a unit of the user's own manager
    version: int  # of systemd; 0: not known
    overlays: tuple[Path, ...] = ()


def unit_text(plan: UnitPlan) -> str:
    """Return the unit of a host."""
    system = bool(plan.user)
    network = NETWORK if system else ""
    old = plan.version and plan.version < SUBGROUP_FROM
    subgroup = (
        f"# DelegateSubgroup needs systemd {SUBGROUP_FROM}; here memory_max is held by restarts.\n"
        if old
        else "DelegateSubgroup=garrison-supervisor\n"
    )
    return UNIT.format(
        folder=_escaped(str(plan.config.parent)),
        network=network,
        user=f"User={plan.user}\n" if system else "",
        command=f"{_quoted(plan.python)} -P -m garrison.supervisor.cli",
        config=" --config ".join(_quoted(str(path)) for path in (plan.config, *plan.overlays)),
        home=_quoted(str(plan.home)),
        watchdog=WATCHDOG_S,
        stop=round(plan.stop_s) + STOP_MARGIN_S,
        subgroup=subgroup,
        credentials=_credentials(plan.secrets),
        target="multi-user.target" if system else "default.target",
    )


def node_unit_text(name: str, key: Path, home: Path, python: str, user: str) -> str:
    """Return the unit of a node.

    Args:
        name: Its NAME.
        key: Its key file, in whose folder its plugins are.
        home: Its home.
        python: Runs it.
        user: That it runs as; empty: a unit of the user's own manager.
    """
    return NODE_UNIT.format(
        name=_escaped(name),
        network=NETWORK if user else "",
        user=f"User={user}\n" if user else "",
        folder=_escaped(str(key.parent)),
        command=f"{_quoted(python)} -P -m garrison.supervisor.cli",
        home=_quoted(str(home)),
        key=_quoted(str(key)),
        stop=NODE_STOP_S + STOP_MARGIN_S,
        target="multi-user.target" if user else "default.target",
    )


def unit_name(folder: Path, overlays: Sequence[Path] = ()) -> str:
    """Return the name of the unit of the host in a folder."""
    words = [folder.name, *(path.stem for path in overlays[-1:])]
    return f"garrison-{NAME.sub('-', '-'.join(words)).strip('-') or 'host'}.service"


def _credentials(secrets: Iterable[str]) -> str:
    """Return a line for each secret; systemd refuses a unit whose credential has no file."""
    lines = [f"#LoadCredential={name}:/etc/garrison/{name}" for name in secrets]
    head = "# A secret that is in no env_file: write its file, mode 600, and take out the #.\n"
    return head + "\n".join(lines) + "\n" if lines else ""


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """Return a word of a command line, as systemd reads it."""
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    text = _escaped(text)
    return f'"{text}"' if re.search(r"[\s;'\"]", text) else text


@click.command(epilog="Examples: garrison systemd; garrison systemd --user --install")
@click.option("--user", is_flag=True, help="A unit of your own manager (systemctl --user).")
@click.option("--install", is_flag=True, help="Write it where systemd reads units.")
@click.option(
    "--node",
    "key",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="KEY",
    help="A unit that runs garrison node with this key, in the folder of the key.",
)
@options
def systemd(invocation: Invocation, user: bool, install: bool, key: Path | None) -> int:
    """Print a systemd unit that runs this host, or a node.

    systemd learns when all services run, that the supervisor lives, and how long a stop takes. A
    supervisor that is killed is started again, and adopts its services.
    """
    if key is not None:
        name, text = _node_unit(invocation, key.absolute(), user)
    else:
        config = load(invocation.config, invocation.home_option)
        text = unit_text(_plan(invocation, config, user))
        name = unit_name(config.path.parent, config.paths[1:])
    if not install:
        invocation.answer({"name": name, "unit": text})
        invocation.say(text.rstrip())
        return DONE
    place = (USER_UNITS.expanduser() if user else SYSTEM_UNITS) / name
    _write(place, text)
    control = "systemctl --user" if user else "systemctl"
    invocation.answer({"name": name, "unit": text, "path": str(place)})
    invocation.say(f"wrote {place}")
    invocation.say(f"now: {control} daemon-reload && {control} enable --now {name}")
    if user:
        invocation.say("to keep it running after you log out: loginctl enable-linger")
    return DONE


def _node_unit(invocation: Invocation, key: Path, user: bool) -> tuple[str, str]:
    """Return the name and the text of the unit of a node."""
    from garrison.supervisor.state.node_keys import read_key

    from .node import HOME

    name, home = read_key(key).name, invocation.home_option or key.parent / HOME
    owner = "" if user else _user_of(key)
    text = node_unit_text(name, key, home.absolute(), sys.executable, owner)
    return f"garrison-node-{NAME.sub('-', name)}.service", text


def _plan(invocation: Invocation, config: Config, user: bool) -> UnitPlan:
    from garrison.supervisor.check import check_config
    from garrison.supervisor.lifecycle.dependencies import longest_stop

    report = check_config(config, os.environ)
    stop_s, _ = longest_stop(report.services)
    bound = config.host.stop_timeout
    secrets = dict.fromkeys(
        source
        for spec in report.services
        if spec.environment.env_file is None
        for source in spec.environment.secrets.values()
        if isinstance(source, str)
    )
    return UnitPlan(
        config=config.path.absolute(),
        python=sys.executable,
        home=config.host.home,
        stop_s=min(stop_s, bound) if bound else stop_s,
        secrets=tuple(secrets),
        user="" if user else _user_of(config.path),
        version=_systemd_version(),
        overlays=config.paths[1:],
    )


def _user_of(config: Path) -> str:
    """Return who owns a config: a service's processes need not be root's."""
    try:
        return config.owner()
    except (KeyError, OSError):
        return "root"


def _systemd_version() -> int:
    """Return the version of systemd here; 0 if there is none."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        ran = subprocess.run(
            ["systemctl", "--version"], capture_output=True, text=True, timeout=VERSION_S
        )
        return int(re.findall(r"\d+", ran.stdout)[0])
    return 0


def _write(place: Path, text: str) -> None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        why = error.strerror or type(error).__name__
        command = f"garrison systemd | sudo tee {shlex.quote(str(place))}"
        raise GarrisonError(f"{place} cannot be written: {why}; run {command}") from error
