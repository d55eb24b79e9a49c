"""Hooks on a real host: each way of delivery, kills, rotation, and what operators see."""

import base64
import contextlib
import hashlib
import hmac
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until, until_true

SECRET, TOKEN = "of-the-webhook-9f3", "of-the-command-7c1"
CONFIG = """
[host]
log_bytes = 65536
disk_low = "99.99%"
[defaults]
intensity = 0
[plugins.mailbox]
[services.mailbox.config]
max_attempts = 1
[plugins.witness]
[plugins.steady]

[hooks.page]
on = ["death"]
services = ["stead*"]
command = ["sh", "-c", "cat >> {folder}/page; echo $TOKEN/$SECRET$OPS_URL/$GARRISON_ON >> $OUT"]
secrets = ["TOKEN"]
every = 0

[hooks.ops]
on = ["death", "disk", "dead_letter", "deaf", "recovered"]
webhook = "$OPS_URL"
secret = "SECRET"
every = 0

[hooks.talk]
on = ["failed", "death"]
services = ["steady"]
call = "witness.notify"
with = {{ by = "talk" }}
every = 0

[hooks.stream]
on = ["task_paused"]
command = ["sh", "-c", "cat >> {folder}/stream"]
every = 0

[services.hooks]
env = {{ OUT = "{folder}/env" }}
[plugins.fakeplatform]
use = "fakeplatform:lookup"
[services.fakeplatform.config]
socket = "{fake}"
[hooks.person]
on = ["death", "recovered"]
services = ["witness"]
call = "fakeplatform.send_direct"
with = {{ person = "ada" }}

[hooks.incomplete]
on = ["budget"]
webhook = "$NOT_SET"

[hooks.broken]
on = ["budget"]
command = ["sh", "-c", "echo it is broken; exit 3"]
"""


class Server(ThreadingHTTPServer):
    """An HTTP server that keeps what is posted."""

    def __init__(self) -> None:
        self.posts: list[tuple[str, dict[str, str], bytes]] = []
        self.refuses = False
        self.refused = 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(BaseHTTPRequestHandler):
    """Keeps a post, or refuses it."""

    def do_POST(self) -> None:
        body, server = self.rfile.read(int(self.headers["content-length"])), self.server
        assert isinstance(server, Server)
        if server.refuses:
            server.refused += 1
            self.send_response(503)
        else:
            head = {key.lower(): value for key, value in self.headers.items()}
            server.posts.append((self.path, head, body))
            self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run one server for all tests."""
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def host(
    server: Server, fake: FakePlatform, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """Run one host for them."""
    folder = tmp_path_factory.mktemp("out")
    text = CONFIG.format(folder=folder, fake=fake.path)
    env = {"SECRET": SECRET, "TOKEN": TOKEN, "OUT": str(folder)}
    env["OPS_URL"] = f"http://127.0.0.1:{server.server_address[1]}/ops?x=1"
    with hosting(text, ["witness", "steady", "fakeplatform"], env=env) as running:
        running.wait_for("hooks", "running")
        yield running


def text_of(host: Host, name: str) -> str:
    """Return what a command wrote; empty before it did."""
    path = Path(host.env["OUT"]) / name
    return path.read_text() if path.exists() else ""


def written(host: Host, name: str) -> list[dict[str, Any]]:
    """Return what a command was passed."""
    return [json.loads(line) for line in text_of(host, name).splitlines()]


def reborn(host: Host, name: str) -> None:
    """Kill a service; return once it runs again."""
    host.until_reborn(name, host.kill(name))


def killed(host: Host, name: str) -> str:
    """Kill a service; return the id of its crash report once it runs again."""
    reborn(host, name)
    found: str = until(
        lambda: [e for e in host.events("service.state", name) if "death" in e["data"]]
    )[-1]["data"]["death"]
    return found


def deaths(rows: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the crash reports of some deliveries."""
    return {row["death"]["id"] for row in rows if row["death"]}


def posted(server: Server) -> list[dict[str, Any]]:
    """Return what was posted."""
    return [json.loads(body) for _, _, body in server.posts]


def hooks(host: Host) -> dict[str, dict[str, Any]]:
    """Return each hook, as the command line lists it."""
    return {one["name"]: one for one in host.run("hooks", json=True).data["hooks"]}


def test_a_death_is_delivered_each_way(host: Host, server: Server) -> None:
    """By a command with its own secret, by a signed webhook, and by a call with its arguments."""
    death = killed(host, "steady")
    until(lambda: death in deaths(written(host, "page")))
    until(lambda: death in deaths(posted(server)))
    environment = until(lambda: text_of(host, "env"))
    (row,) = [row for row in written(host, "page") if row["death"]["id"] == death]
    path, head, body = next(one for one in server.posts if death.encode() in one[2])
    signed = f"{head['webhook-id']}.{head['webhook-timestamp']}.".encode() + body
    digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()

    assert (row["on"], row["service"], row["version"]) == ("death", "steady", 1)
    assert row["reason"] == "its process was killed by SIGKILL"
    assert row["death"]["kind"] == "signal"
    assert row["look"] == f"garrison --home {host.home} why steady"
    assert environment.splitlines()[0] == f"{TOKEN}//death"
    assert path == "/ops?x=1"
    assert head["webhook-signature"] == f"v1,{base64.b64encode(digest).decode()}"
    assert TOKEN not in json.dumps(written(host, "page"))
    seen = until(lambda: host.run("call", "witness", "all", json=True).data)
    assert seen[-1][:2] == ["talk", "steady has died: its process was killed by SIGKILL"]
    assert seen[-1][2].startswith("hook_")


def test_a_hook_without_its_secret_keeps_no_other_from_delivering(host: Host) -> None:
    """It is marked, and its test says what to do."""
    problem = (
        "without its secret NOT_SET it delivers nothing: export it where the supervisor starts"
    )
    until(lambda: f"hook incomplete: {problem}" in " ".join(host.run("status").out.split()))
    tested = host.run("hooks", "test", "incomplete")
    assert (tested.code, problem in " ".join(tested.out.split())) == (1, True), tested


def test_little_space_is_delivered_and_shown(host: Host, server: Server) -> None:
    """What is of the host concerns hooks for all services alone."""
    until(lambda: any(row["on"] == "disk" for row in posted(server)))
    assert "below disk_low" in host.run("status").out
    head = host.ask("status")["supervisor"]["disk"]
    assert head["low"]
    assert head["free_bytes"] < head["limit_bytes"]


def test_a_test_delivers_a_sample_and_says_what_came_of_it(host: Host, server: Server) -> None:
    """It exits with 1 if it fails, and counts nowhere."""
    before = hooks(host)
    good = host.run("hooks", "test", "ops", "--on", "failed")
    bad = host.run("hooks", "test", "broken")
    every = host.run("hooks", "test", json=True)
    unknown = host.run("hooks", "test", "pag")

    assert (good.code, bad.code, every.code, unknown.code) == (0, 1, 1, 1)
    assert "ops: delivered by webhook" in good.out
    assert "sh exited with 3: it is broken" in bad.out
    assert every.data, every
    assert {one["hook"]: one["ok"] for one in every.data["hooks"]} == {
        **dict.fromkeys(["page", "ops", "talk", "stream", "person"], True),
        **dict.fromkeys(["incomplete", "broken"], False),
    }
    assert "there are: page, ops, talk, stream, person, incomplete, broken" in unknown.err
    assert [row["on"] for row in posted(server) if row["test"]] == ["failed", "death"]
    assert hooks(host) == before


async def test_what_services_report_is_delivered(host: Host, server: Server) -> None:
    """A message that the mailbox has given up, by its receiver; a platform that is deaf."""
    await host.call("witness", "refuse", 1)
    async with host.connect() as client:
        await client.post("witness", "notify", "a text")
    await host.call("fakeplatform", "lose", "the session is over")
    await until_true(lambda: {"dead_letter", "deaf"} <= {row["on"] for row in posted(server)})
    await host.call("fakeplatform", "lose", "")
    await until_true(
        lambda: (
            ("recovered", "fakeplatform") in {(row["on"], row["service"]) for row in posted(server)}
        )
    )
    dead, deaf = (
        next(row for row in posted(server) if row["on"] == on) for on in ("dead_letter", "deaf")
    )

    assert (dead["service"], dead["event"]["data"]["by"]) == ("witness", "mailbox")
    assert "not now" in dead["reason"]
    assert (deaf["service"], deaf["reason"]) == ("fakeplatform", "the session is over")
    assert len(host.events("mail.dead")) == 1  # though it is in several heartbeats


def test_a_person_reads_it_on_a_chat_platform(host: Host, fake: FakePlatform) -> None:
    """Three lines of config; also where the platform was killed meanwhile."""
    killed(host, "witness")
    host.kill("fakeplatform")
    died, back = "witness has died: its process was killed by SIGKILL", "witness is back: it runs"

    def read() -> list[str]:
        return [text for text in fake.answers("dm-ada") if text.startswith("witness")]

    until(lambda: len(read()) >= 2)
    assert [sum(text.startswith(one) for text in read()) for one in (died, back)] == [1, 1]


def test_what_fails_is_delivered_by_the_mailbox_later(host: Host, server: Server) -> None:
    """And is shown meanwhile; its later deliveries do not wait for it."""
    server.refuses = True
    first = killed(host, "witness")
    shown = until(lambda: re.search(r"ops ! .*", host.run("hooks").out))
    assert shown is not None
    assert "answered HTTP 503" in shown[0]
    # The death and the recovery, and the mailbox's first try of each.
    until(lambda: server.refused >= 4)
    server.refuses = False
    second = killed(host, "witness")
    until(lambda: second in deaths(posted(server)))
    until(lambda: first in deaths(posted(server)))
    (late,) = [row for row in posted(server) if row["death"] and row["death"]["id"] == first]
    assert late["late"]
    assert late["text"].endswith(f" (at {late['at']}, delivered late)")
    until(lambda: not hooks(host)["ops"]["problem"])
    assert hooks(host)["ops"]["failed"] == 0


def test_its_own_death_is_not_delivered(host: Host, server: Server) -> None:
    """Else a hook that kills it would be run on that."""
    killed(host, "hooks")
    later = killed(host, "steady")
    until(lambda: later in deaths(posted(server)))
    assert "hooks" not in {row["service"] for row in posted(server)}


@pytest.mark.parametrize("kills", [6, pytest.param(20, marks=pytest.mark.external)])
async def test_no_event_is_lost_though_it_is_killed_again_and_again(host: Host, kills: int) -> None:
    """Also where the events are rotated meanwhile."""
    wanted = {f"incident {kills} {n}" for n in range(96)}
    files = {path.name for path in (host.home / "logs").glob("events.jsonl*")}
    for n, reason in enumerate(sorted(wanted)):
        fields = {str(key): "x" * 200 for key in range(6)}
        await host.call("witness", "report", "task.paused", reason, fields)
        if n % (96 // kills) == 0:
            host.kill("hooks")
            host.ask("restart", "hooks")  # without the wait of one that crashes again and again
        if n % 32 == 31:  # as many as a heartbeat has
            until(partial(is_recorded, host, reason))
    until(lambda: wanted <= {row["reason"] for row in written(host, "stream")})

    rows = [row for row in written(host, "stream") if row["reason"] in wanted]
    assert len({row["id"] for row in rows}) == len(wanted)
    assert {path.name for path in (host.home / "logs").glob("events.jsonl*")} > files
    assert "position_lost" not in host.log("hooks")


def is_recorded(host: Host, reason: str) -> bool:
    """Return whether an event has a reason. A file that is being rotated is looked for again."""
    for path in (host.home / "logs").glob("events.jsonl*"):
        with contextlib.suppress(FileNotFoundError):
            if f'"{reason}"' in path.read_text():
                return True
    return False


def test_a_delivery_of_a_stopped_process_goes_on_after_it(host: Host) -> None:
    """An ordered stop of the host, and another supervisor."""
    killed(host, "steady")
    host.restart()
    ids = [e["data"].get("death") for e in host.events("service.state", "steady")]
    last = [one for one in ids if one][-1]
    until(lambda: last in deaths(written(host, "page")))
