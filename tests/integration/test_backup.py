"""`garrison backup` and `garrison restore`, with bad files and in bad places.

Moving a host in conversation is in `tests/chaos/test_moving.py`.
"""

import gzip
import hashlib
import io
import json
import os
import signal
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.host import Host, hosting
from tests.support.proc import alive
from tests.support.waiting import until

from garrison.ipc.errors import SupervisorGone
from garrison.ipc.system import process_tree
from garrison.supervisor.cli.backup import SupervisorHold
from garrison.supervisor.state.home import lock_for_backup

CONFIG = """
[plugins]
mailbox = {}
steady = {}
[services.one]
plugin = "steady"
type = "steady"
env_file = "one.env"
secrets = ["TOKEN"]
[services.old]
command = ["sleep", "1000"]
[agent]
character = "ada.json"
"""
CHARACTER = '{"name": "Ada", "settings": {"secrets": {"KEY": "s3cret-of-ada"}}}'
FILES = {"one.env": "TOKEN=s3cret-of-one\n", "ada.json": CHARACTER}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """Return a running host with a mailbox, secrets and a plain command."""
    with hosting(CONFIG, ["steady"], files=FILES, up=False) as host:
        (host.folder / "ada.json").chmod(0o600)
        yield host.up()


@pytest.fixture(scope="module")
def archive(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a backup of it, made while it runs."""
    data = host.home / "state" / "services" / "one"
    data.mkdir(parents=True, exist_ok=True)
    (data / "kept.txt").write_text("kept")
    (data / "link").symlink_to("/etc/passwd")
    file = tmp_path_factory.mktemp("b") / "b.tgz"
    saved = host.run("backup", str(file))
    assert saved.code == 0, saved
    assert "secrets: TOKEN (env_file one.env)" in saved.out
    assert "programs: sleep" in saved.out
    return file


def members(archive: Path) -> dict[str, bytes]:
    """Return the files of an archive."""
    with tarfile.open(archive) as tar:
        return {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]


def rewritten(archive: Path, target: Path, **changes: bytes) -> Path:
    """Return a copy of an archive with other contents; a name's "_" stands for "/"."""
    with tarfile.open(target, "w:gz") as tar:
        for name, content in members(archive).items():
            data = changes.get(name.replace("/", "_").replace(".", "_"), content)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return target


def test_a_backup_has_all_but_secrets(host: Host, archive: Path) -> None:
    """It is readable by its owner alone, and replaces no file unasked."""
    found = members(archive)
    assert "home/state/services/mailbox/mailbox.db" in found
    assert found["home/state/services/one/kept.txt"] == b"kept"
    assert not {name for name in found if "link" in name or name.endswith(("-wal", "-shm", ".env"))}
    assert b"s3cret" not in b"".join(found.values())
    assert archive.stat().st_mode & 0o777 == 0o600
    manifest = json.loads(found["manifest.json"])
    assert manifest["commands"] == ["old"]
    assert {"one", "old", "mailbox"} <= set(manifest["services"])
    assert "is there already" in host.run("backup", str(archive)).err
    assert "in the home" in host.run("backup", str(host.home / "b.tgz")).err
    assert "there is no folder" in host.run("backup", "/nowhere/b.tgz").err
    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_secrets_are_saved_when_ordered(host: Host, tmp_path: Path) -> None:
    """And the output names that."""
    saved = host.run("backup", str(tmp_path / "b.tgz"), "--with-secrets")
    assert "it has SECRETS" in saved.out
    found = members(tmp_path / "b.tgz")
    assert found["config/one.env"] == FILES["one.env"].encode()
    assert b"s3cret-of-ada" in found["config/ada.json"]


def test_a_restored_host_is_paused(host: Host, archive: Path, tmp_path: Path) -> None:
    """Everything is there, and starts with what it had; nothing that is there is overwritten."""
    folder = tmp_path / "new"
    restored = host.run("restore", str(archive), "--into", str(folder), home=False)
    assert restored.code == 0, restored
    assert "put the secrets in place: TOKEN (env_file one.env)" in restored.out
    orders = json.loads((folder / ".garrison" / "state" / "orders.json").read_text())
    assert {"one", "mailbox"} <= set(orders["paused"])
    assert orders["stopped"] == ["old"]
    assert (folder / ".garrison/state/services/one/kept.txt").read_text() == "kept"
    accepted = (folder / ".garrison" / "state" / "accepted.json").read_text()
    assert str(host.folder) not in accepted
    assert {path.name for path in folder.iterdir()} == {
        *(".garrison", "config.toml", "steady.py", "ada.json", "restored-packages.txt")
    }
    for into, text in ((folder, "is not empty"), (host.folder, "not as in the backup")):
        if into == host.folder:
            (tmp_path / "other").mkdir()
            into = tmp_path / "other"
            (into / "config.toml").write_text("[host]\n")
        again = host.run("restore", str(archive), "--into", str(into), home=False)
        assert again.code == 1
        assert text in again.err
    running = host.run("restore", str(archive), "--into", str(tmp_path / "x"))
    assert "a host runs in" in running.err
    assert not (tmp_path / "x").exists()


def test_a_home_that_the_config_does_not_name_is_to_be_written_into_it(
    host: Host, archive: Path, tmp_path: Path
) -> None:
    """Else `up` without `--home` would start an empty host, in which nothing is paused. A home that
    holds a host already is refused."""
    into, home = tmp_path / "new", tmp_path / "elsewhere"
    words = ("restore", str(archive), "--into", str(into), "--home")
    refused = host.run(*words, str(host.home), home=False)
    assert (refused.code, f"a host runs in {host.home}" in refused.err) == (1, True), refused
    restored = host.run(*words, str(home), home=False)
    assert f'write home = "{home}" under [host] of {into}/config.toml' in restored.out, restored
    again = host.run(*words, str(home), home=False)
    assert (again.code, f"{home} is not empty" in again.err) == (1, True), again


def test_bad_archives_leave_nothing_behind(host: Host, archive: Path, tmp_path: Path) -> None:
    """Cut off, changed, foreign, of a later version, or with a home elsewhere."""
    whole = archive.read_bytes()
    manifest = json.loads(members(archive)["manifest.json"])
    later = json.dumps({**manifest, "garrison": "99.0"}).encode()
    elsewhere = of_config(manifest, b'[host]\nhome = "/srv/nowhere"\n')
    above = of_config(manifest, b'[host]\nstate = "../keys"\n')
    unusable = of_config(manifest, b'[host]\nstate = "a\\u0000b"\n')
    cases = {
        "cut": (whole[: len(whole) // 2], "damaged or cut off"),
        "text": (b"hello\n" * 1000, "damaged or cut off"),
        "gzip": (gzip.compress(b"hello\n" * 1000), "damaged or cut off"),
        "empty": (b"", "damaged or cut off"),
        "long name": (gzip.compress(long_name()), "a header of 33,554,432 bytes"),
    }
    for name, (content, text) in cases.items():
        (tmp_path / name).write_bytes(content)
        refused = host.run(
            "restore", str(tmp_path / name), "--into", str(tmp_path / "d"), home=False
        )
        assert (refused.code, text in refused.err) == (1, True), (name, refused)
        assert not (tmp_path / "d").exists(), name
    changed = {
        "hash": ({"home_state_services_one_kept_txt": b"kepT"}, "is not as it was saved"),
        "size": ({"home_state_services_one_kept_txt": b"more" * 9}, "is not what its manifest"),
        "later": ({"manifest_json": later}, "it was made with garrison 99.0"),
        "elsewhere": (elsewhere, "/srv/nowhere, outside"),
        "above": (above, f"{tmp_path}/keys, outside"),
        "unusable": (unusable, "a path with a NUL in it"),
    }
    for name, (changes, text) in changed.items():
        file = rewritten(archive, tmp_path / f"{name}.tgz", **changes)
        refused = host.run("restore", str(file), "--into", str(tmp_path / "d"), home=False)
        assert (refused.code, text in refused.err) == (1, True), (name, refused)
        assert not (tmp_path / "d").exists(), name
        assert not (tmp_path / "keys").exists(), name


def long_name() -> bytes:
    """Return the begin of an archive with a file's name of 32 MiB."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, 32 << 20
    return header.tobuf(format=tarfile.GNU_FORMAT) + bytes(header.size)


def of_config(manifest: dict[str, Any], text: bytes) -> dict[str, bytes]:
    """Return the changes of an archive whose config has another text."""
    file = {"size": len(text), "sha256": hashlib.sha256(text).hexdigest()}
    files = [
        one | file if one["path"] == "config/config.toml" else one for one in manifest["files"]
    ]
    changed = json.dumps({**manifest, "files": files}).encode()
    return {"manifest_json": changed, "config_config_toml": text}


def test_services_go_on_when_the_backup_is_killed(host: Host, tmp_path: Path) -> None:
    """They are held for a bounded time, whatever becomes of the one that ordered it."""
    pid = host.status("one")["pid"]
    held = host.ask("hold", seconds=0.5)
    assert "one" in held["held"]
    assert state_of(pid) == "T"
    until(lambda: state_of(pid) != "T", what="the service goes on")
    assert host.events("backup.held_too_long")
    assert host.status("one")["pid"] == pid
    assert alive(pid)


def test_all_processes_go_on_when_the_supervisor_is_killed(host: Host) -> None:
    """The backup has them go on: the workers, and what these have started."""
    hold = SupervisorHold(host.home)
    worker = host.status("old")["pid"]
    (sleeping,) = process_tree.children(worker)
    hold.begin()
    assert {state_of(worker), state_of(sleeping)} == {"T"}, "all have stopped before it is answered"
    host.end(signal.SIGKILL)
    with pytest.raises(SupervisorGone):
        hold.end()
    try:
        until(lambda: "T" not in {state_of(worker), state_of(sleeping)}, what="both go on")
    finally:
        host.up()
    assert host.status("old")["pid"] == worker


def state_of(pid: int) -> str:
    """Return the state of a process, as /proc has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_host_whose_services_are_stopped_is_saved(host: Host, tmp_path: Path) -> None:
    """There is nothing to hold."""
    host.ask("stop", "*")
    saved = host.run("backup", str(tmp_path / "b.tgz"))
    assert saved.code == 0, saved
    host.ask("start", "*")


def test_a_host_that_does_not_run_is_saved(host: Host, tmp_path: Path) -> None:
    """With its lock held, so that none is started meanwhile; the last test, which ends it."""
    os.kill(host.pid, signal.SIGTERM)
    assert host.end() == 0
    lock = lock_for_backup(host.home)
    for verb in (("up",), ("backup", str(tmp_path / "b.tgz"))):
        refused = host.run(*verb, "-c", str(host.config))
        text = f"a backup of {host.home} is being made (pid {os.getpid()}): try again"
        assert (refused.code, text in refused.err) == (1, True), refused
    os.close(lock)
    words = ("backup", str(tmp_path / "b.tgz"), "-c", str(host.config))
    saved = host.run(*words, json=True)
    assert saved.code == 0, saved
    assert {"one", "old", "mailbox"} <= set(saved.data["services"])
    assert saved.data["held_s"] == 0.0
    assert json.loads(members(tmp_path / "b.tgz")["manifest.json"])["commands"] == ["old"]
