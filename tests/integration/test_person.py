"""A person who talks to a bot on a platform: export shows it, forget removes it everywhere, and a
restored backup is cleaned again."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

CONFIG = """
[defaults]
record_values = true
[plugins.mailbox]
[plugins.agent]
[plugins.eliza]
[plugins.fakechat]
use = "fakechat:complete"
[services.fakechat]
env = {{ FAKE = "{fake}" }}
"""
SECRET = "my sister lives in Ghent"
STORES = ("answers.db", "memory.db", "mailbox.db", "platform.db")


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run a host on it."""
    with hosting("", ["fakechat"], up=False) as host:
        host.write("config.toml", CONFIG.format(fake=fake.path))
        host.up()
        fake.until_bots(1)
        yield host


def files_with(host: Host, text: str) -> list[str]:
    """Return the files of the home that contain a text, apart from logs and what `run/` has."""
    found = [path for path in (host.home / "state").rglob("*") if path.is_file()]
    found += [path for path in host.home.iterdir() if path.is_file()]
    return sorted(path.name for path in found if text.encode() in path.read_bytes())


def talk(host: Host, fake: FakePlatform) -> str:
    """Have Ada and Bob say something, and post something that nothing answers; return Ada's id."""
    fake.say("lobby", f"q1 {SECRET}", author="ada-17")
    fake.say("lobby", "q2 I like chess", author="bob-18")
    until(lambda: len(fake.answers("lobby")) == 2, what="both were answered")
    # A crash report with recorded values, of a call with her text.
    old = host.kill("eliza")
    host.until_reborn("eliza", old)
    until(lambda: host.run("deaths").out.count("eliza-"), what="there is a report")
    return "ada-17"


def backup(host: Host, folder: Path) -> dict[Path, Path]:
    """Copy the files of the stores; return each copy's original."""
    copies: dict[Path, Path] = {}
    for path in (host.home / "state" / "services").rglob("*"):
        if path.name.startswith(STORES) and path.is_file():
            copy = folder / f"{len(copies)}-{path.name}"
            shutil.copy(path, copy)
            copies[copy] = path
    return copies


def test_a_service_that_does_not_run_is_named(host: Host) -> None:
    """The others erase; it does when it starts; the exit code says that it is not done."""
    host.ask("stop", "fakechat", wait=30.0)
    done = host.run("person", "forget", "fakechat:ada-17", "--yes")
    export = host.run("person", "export", "fakechat:ada-17")

    assert done.code == export.code == 1
    assert "fakechat: it is stopped" in done.err
    assert "start fakechat" in done.err
    assert json.loads(export.out)["not_reached"][0]["service"] == "fakechat"
    host.ask("start", "fakechat", wait=30.0)


def test_a_person_is_exported_and_forgotten_for_good(
    host: Host, fake: FakePlatform, tmp_path: Path
) -> None:
    """In every store, also after a backup of all of them was restored; Bob's words stay."""
    ada = talk(host, fake)
    out = tmp_path / "ada.json"
    assert host.run("person", "export", f"fakechat:{ada}", "--out", str(out)).code == 0
    held = json.loads(out.read_text())["held"]
    stores = {(row["service"], row["store"]) for row in held}
    assert stores == {("agent", "answers"), ("agent", "memories"), ("agent", "sends")}
    assert SECRET in out.read_text()
    assert "chess" not in out.read_text()
    assert out.stat().st_mode & 0o777 == 0o600
    assert host.end() == 0
    copies = backup(host, tmp_path)
    host.up()
    fake.until_bots(1)

    assert host.run("person", "forget", f"fakechat:{ada}").code == 2  # nobody was asked
    done = host.run("person", "forget", f"fakechat:{ada}", "--yes", json=True)
    assert done.code == 0, done
    erased = {one["service"]: one["erased"] for one in done.data["services"]}
    assert erased["agent"]["messages"] == 1
    assert erased["agent"]["memories"] == 2
    assert erased["agent"]["sends"] == 1
    assert done.data["reports"] >= 1
    assert files_with(host, SECRET) == []
    assert files_with(host, "I like chess") != []
    assert "lives in" not in host.run("answer").out

    assert host.end() == 0
    for copy, path in copies.items():
        shutil.copy(copy, path)
    assert files_with(host, SECRET) != []
    host.up()
    assert files_with(host, SECRET) == []
    assert files_with(host, "I like chess") != []
    assert json.loads(host.run("person", "export", f"fakechat:{ada}").out)["held"] == []
