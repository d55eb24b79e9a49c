"""A secret reaches its own service only, and no output and no file has it.

Each service has a canary, a unique text. The test looks for it in every file of the host, in the
output of every verb, and in the memory of every process.
"""

import base64
import contextlib
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, Hosting, found
from tests.support.waiting import until

from garrison.ipc import InvalidCall, OrderFailed, RemoteError

WELL = {"by-env": "", "renamed": "", "by-env-file": "", "by-credential": "", "by-file": "",
        "stops-badly": "stop raises"}  # fmt: skip
ILL = {"in-init": "init raises", "in-start": "start raises", "refused": "start refuses",
       "cut": "long reason", "behind": "background raises", "left": "exits"}  # fmt: skip
PREFIX = "cAn4ry-"
DEFAULTS = "[defaults]\nwatchdog = 0\ngrace = 3\n[plugins.keeper]\n[plugins.echo]\n"


def config(services: dict[str, str], sources: dict[str, str]) -> str:
    """Return a config with a keeper under each NAME."""
    text = DEFAULTS + "[services.keeper]\nautostart = false\nenv = { TOKEN = 'none' }\n"
    for name, mode in services.items():
        text += f'[services.{name}]\nplugin = "keeper"\nenv = {{ MODE = "{mode}" }}\n'
        usual = f'secrets = {{ TOKEN = "{variable(name)}" }}'
        text += sources.get(name, usual) + "\n"
    return text


def variable(name: str) -> str:
    """Return the variable of a service's canary in the supervisor's environment."""
    return "OF_" + name.upper().replace("-", "_")


def memory(pid: int) -> Iterator[bytes]:
    """Yield a process's memory, environment and arguments."""
    process = Path(f"/proc/{pid}")
    yield (process / "environ").read_bytes()
    yield (process / "cmdline").read_bytes()
    with (process / "mem").open("rb", 0) as file:
        for line in (process / "maps").read_text().splitlines():
            extent, modes, *_ = line.split()
            if "r" not in modes or "[v" in line:
                continue
            begin, end = (int(part, 16) for part in extent.split("-"))
            with contextlib.suppress(OSError, ValueError):
                file.seek(begin)
                yield file.read(end - begin)


def holders(pids: dict[str, int], canaries: dict[str, str]) -> dict[str, set[str]]:
    """Return the canaries that each process has."""
    held: dict[str, set[str]] = {}
    for who, pid in pids.items():
        held[who] = set()
        for part in memory(pid):
            if PREFIX.encode() in part:  # one search through hundreds of megabytes, not twelve
                held[who] |= {name for name, text in canaries.items() if text.encode() in part}
    return held


@pytest.mark.skipif(
    os.geteuid() != 0
    and (scope := Path("/proc/sys/kernel/yama/ptrace_scope")).exists()
    and scope.read_text().strip() != "0",
    reason="this kernel shows a process's memory to its own forebears and root alone",
)
async def test_a_canary_is_found_where_it_belongs_alone(host: Hosting, tmp_path: Path) -> None:
    """From each source, leaked in each way: it is in its own worker and the supervisor, and nowhere
    else."""
    services = WELL | ILL
    canaries = {name: f"{PREFIX}{name}-{uuid.uuid4().hex}" for name in services}
    env = {variable(name): text for name, text in canaries.items()}
    for name in ("by-env-file", "by-credential", "by-file"):
        del env[variable(name)]
    credentials = tmp_path / "credentials"
    credentials.mkdir(0o700)
    files = {
        tmp_path / "of.env": f"TOKEN='{canaries['by-env-file']}'\n",
        tmp_path / "token.txt": canaries["by-file"] + "\n",
        credentials / "BOT_TOKEN": canaries["by-credential"],
    }
    for path, text in files.items():
        path.touch(0o400)
        path.chmod(0o600)
        path.write_text(text)
        path.chmod(0o400)
    sources = {
        "by-env-file": f'env_file = "{tmp_path}/of.env"',
        "by-credential": 'secrets = { TOKEN = "BOT_TOKEN" }',
        "by-file": f'secrets = {{ TOKEN = {{ file = "{tmp_path}/token.txt" }} }}',
    }
    running = host(
        config(services, sources),
        ["keeper", "echo"],
        env=env | {"CREDENTIALS_DIRECTORY": str(credentials)},
        forked=False,  # a forked launcher has the memory of what forked it
    )
    assert {name for name in WELL if running.status(name)["state"] != "running"} == set()
    for name in ILL:
        until(lambda name=name: running.status(name)["restarts"] or running.status(name)["reason"])  # type: ignore[misc]
    output = await _leaked_in_every_way(running, canaries)
    output += _shown_in_every_way(running)
    assert not [
        name for name, text in canaries.items() if text[:20] in output or text[20:] in output
    ]
    for name in WELL:
        assert "[TOKEN]" in running.log(name)

    pids, reader = _while_a_plugin_is_read(running)
    held = holders(pids, canaries)
    assert held.pop("supervisor") >= {name for name in canaries if variable(name) in env}
    assert held.pop("reader") == set()
    assert {name: texts for name, texts in held.items() if texts - {name}} == {}
    assert {name for name in WELL if held[name] != {name}} == set()
    (running.folder / "shut").unlink()
    until(lambda: not Path(f"/proc/{reader}").exists())

    running.end()
    assert _files_with(running.folder, canaries) == []


async def _leaked_in_every_way(running: Host, canaries: dict[str, str]) -> str:
    """Have each service leak its canary; return all that others got, except for results."""
    text = ""
    async with running.connect() as client:
        for name in WELL:
            keeper = found(client, name)
            assert await keeper.tell() == canaries[name]
            await keeper.spill()
            for method in ("fail", "fail_in_a_thread"):
                with pytest.raises(RemoteError) as caught:
                    await getattr(keeper, method)()
                text += f"{caught.value} {caught.value.traceback} {caught.value.__notes__}"
            with pytest.raises(RemoteError) as caught:
                _ = [number async for number in keeper.numbers()]
            text += f"{caught.value} {caught.value.traceback}"
            with pytest.raises(InvalidCall) as refused:
                await keeper.use(nothing=1)
            text += str(refused.value)
            assert "[TOKEN]" in text
        for name, method in (("renamed", "crash"), ("by-file", "abort")):
            pid = running.status(name)["pid"]
            with contextlib.suppress(Exception):
                await getattr(found(client, name), method)()
            running.until_reborn(name, pid)
    running.ask("stop", "stops-badly")
    text += str(running.status("stops-badly"))
    running.ask("start", "stops-badly")
    return text


def _shown_in_every_way(running: Host) -> str:
    """Return the output of every verb."""
    text = ""
    verbs = (["status"], ["status", *WELL, *ILL], ["events", "-n", "4000"], ["check"],
             ["logs", "-n", "4000"], ["call", "by-env", "fail"], ["start", "in-start"])  # fmt: skip
    for words in verbs:
        for as_json in (True, False):
            done = running.run(*words, json=as_json)
            text += done.out + done.err
    assert "Spilled" in text
    assert "[TOKEN]" in text
    return text + str([running.status(name) for name in (*WELL, *ILL)])


def _while_a_plugin_is_read(running: Host) -> tuple[dict[str, int], int]:
    """Return all processes of the host while one reads a plugin."""
    for name in ILL:
        with contextlib.suppress(OrderFailed):
            running.ask("stop", name)
    pid = running.kill("echo")  # one that is forked after the others had their secrets
    running.until_reborn("echo", pid)
    running.write("shut", "")
    with contextlib.suppress(OrderFailed):  # it is not done in time, and goes on
        running.ask("restart", "echo", "keeper", wait=0.2)
    reader = int(until(lambda: _text(running.folder / "reading"), what="the plugin is being read"))
    pids = {name: row["pid"] for name, row in running.rows().items() if row["pid"]}
    pids |= {"supervisor": running.pid, "launcher": running.launcher, "reader": reader}
    spares = running.processes() - set(pids.values())
    assert spares, "no worker was forked ahead"
    for pid in (*pids.values(), *spares):
        assert re.search(r"Max core file size +0 +0 ", Path(f"/proc/{pid}/limits").read_text())
        assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
    return {**pids, **{f"spare {pid}": pid for pid in spares}}, reader


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def _files_with(folder: Path, canaries: dict[str, str]) -> list[tuple[str, str]]:
    needles = {  # also what is left of one that was cut
        name: (text[:20].encode(), text[-24:].encode(), base64.b64encode(text.encode())[:24])
        for name, text in canaries.items()
    }
    return [
        (str(path), name)
        for path in folder.rglob("*")
        if path.is_file()
        for name, forms in needles.items()
        if any(form in path.read_bytes() for form in forms)
    ]


def test_an_open_file_is_refused_with_what_to_do(host: Hosting, tmp_path: Path) -> None:
    """`up` and `check` name the file, its mode and the command; with the mode corrected, it
    starts."""
    secret = uuid.uuid4().hex
    path = tmp_path / "token.txt"
    path.write_text(secret)
    path.chmod(0o640)
    running = host(
        config({"bot": ""}, {"bot": f'secrets = {{ TOKEN = {{ file = "{path}" }} }}'}),
        ["keeper", "echo"],
    )
    says = f"secret TOKEN: {path} has mode 0640, so others can get at it: chmod 600 {path}"
    assert running.wait_for("bot", "failed")["reason"] == says
    assert says in running.run("check").out
    path.chmod(0o600)
    running.ask("start", "bot")
    assert running.status("bot")["state"] == "running"
    path.chmod(0o604)
    with pytest.raises(OrderFailed, match=r"mode 0604.*the running one stays"):
        running.ask("restart", "bot")
    events: Any = json.dumps(running.events())
    assert secret not in events + running.log("bot")


async def test_a_setting_that_is_not_granted_is_named_in_status(host: Hosting) -> None:
    """With the line to add; its value is nowhere in the worker."""
    running = host("[plugins.echo]\n", ["echo"], env={"LOOSE_TOKEN": "cAn4ry"}, forked=False)
    assert await running.call("echo", "setting", "LOOSE_TOKEN") is None
    expected = (
        "LOOSE_TOKEN is set for the supervisor, but this service is not granted it; "
        'add secrets = ["LOOSE_TOKEN"] to [services.echo] in the config'
    )
    (line,) = until(lambda: running.status("echo")["warnings"])
    assert line == expected
    assert running.log("echo").count(f"setting.withheld {expected}") == 1
    assert not any(b"cAn4ry" in part for part in memory(running.status("echo")["pid"]))
