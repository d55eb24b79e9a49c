"""One credential is used by one service of the machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.host import Host, hosting
from tests.support.platform_client import FakePlatform
from tests.support.waiting import until

from garrison.ipc import OrderFailed
from garrison.ipc.system import credential_lock

SECRET = f"a token of these tests, {os.getpid()}"
CONFIG = """
[plugins.mailbox]
[plugins.fakechat]
use = "fakechat:no_lookup"
[services.fakechat]
env = {{ FAKE = "{fake}" }}
secrets = ["TOKEN"]
[services.second]
plugin = "fakechat"
type = "fakechat"
autostart = false
env = {{ FAKE = "{fake}", TOKEN = "{token}" }}
{more}
"""
HOLD = """
import sys, time
from garrison.ipc.system import credential_lock
lock = credential_lock.take(sys.argv[1])
print(lock is not None, flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def host(fake: FakePlatform) -> Iterator[Host]:
    """Run a host whose platform has the credential."""
    with hosting(config(fake, SECRET), ["fakechat"], env={"TOKEN": SECRET}) as running:
        running.wait_for("fakechat", "running")
        yield running


def config(fake: FakePlatform, token: str, more: str = "") -> str:
    """Return a config with a second service that has this token."""
    return CONFIG.format(fake=fake.path, token=token, more=more)


def test_a_second_service_of_the_home_is_refused_by_name(host: Host) -> None:
    """It waits in backoff, and its reason names the first one."""
    with pytest.raises(OrderFailed, match="second is not connected"):
        host.ask("start", "second")
    row = host.wait_for("second", "backoff")
    host.ask("stop", "second")

    pid = host.status("fakechat")["pid"]
    assert "the credential TOKEN is in use by" in row["reason"]
    assert f"pid {pid}, the service fakechat of {host.home}" in row["reason"]
    assert SECRET not in row["reason"]


def test_a_second_home_is_refused_also_by_check(host: Host, fake: FakePlatform) -> None:
    """Its own home's check passes over the holder."""
    with hosting(config(fake, "another"), ["fakechat"], env={"TOKEN": SECRET}) as other:
        row = other.wait_for("fakechat", "backoff")
        checked = other.run("check", json=True).answer["data"]

    assert f"the service fakechat of {host.home}" in row["reason"]
    (problem,) = checked["would_not_start"]
    assert problem.startswith("fakechat would not start: its credential TOKEN is in use by pid ")
    assert str(host.home) in problem


def test_check_names_two_services_with_one_credential(host: Host) -> None:
    """The running one is no problem, the second is."""
    checked = host.run("check", json=True).answer["data"]

    assert checked["would_not_start"] == [
        "second would not start beside fakechat: both have the same credential TOKEN; give one of "
        "them another"
    ]


def test_check_says_what_a_platform_lacks() -> None:
    """Its credential, an agent, the mailbox; with all of them it says nothing."""
    platform = '[plugins.fakechat]\nuse = "fakechat:no_lookup"\n'
    agent, mailbox = "[plugins.agent]\n", "[plugins.mailbox]\n"
    secret = "[services.fakechat]\nsecrets = ['TOKEN']\n"
    for config, warning, note in (
        (platform, "would start without its credential TOKEN: add", "no agent is configured"),
        (platform + agent + secret, "", "no mailbox is configured"),
        (platform + agent + mailbox + secret, "", ""),
        (mailbox, "", ""),
    ):
        with hosting(config, ["fakechat"], env={"TOKEN": "free"}, up=False) as host:
            checked = host.run("check", "-c", str(host.config), json=True, home=False)
        assert checked.answer["data"]["usable"]
        for found, expected in (("warnings", warning), ("notes", note)):
            texts = checked.answer["data"][found]
            assert len(texts) == bool(expected), texts
            assert expected in "".join(texts)


def test_a_restart_gets_its_own_credential_back(host: Host) -> None:
    """The kernel releases the lock with the process."""
    old = host.kill("fakechat")
    row = host.until_reborn("fakechat", old)

    holder = credential_lock.holder_of(SECRET)
    assert holder is not None
    assert (holder.pid, holder.service) == (row["pid"], "fakechat")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_lock_spans_users() -> None:
    """The holder's pid and user are known where its files cannot be read."""
    secret = f"another token, {os.getpid()}"
    command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable)
    with subprocess.Popen([*command, "-c", HOLD, secret], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"True\n"
        try:
            assert credential_lock.take(secret) is None
            holder = credential_lock.holder_of(secret)
            assert holder is not None
            assert (holder.pid, holder.uid, holder.service) == (process.pid, 65534, "")
            assert holder.words() == f"pid {process.pid} of user 65534"
        finally:
            process.send_signal(signal.SIGKILL)
    until(lambda: credential_lock.holder_of(secret) is None)


def test_the_lock_does_not_outlive_its_descriptor_nor_tell_the_secret() -> None:
    """It is not inherited by programs, and its name is an HMAC."""
    secret = f"s3cret of {os.getpid()}"
    lock = credential_lock.take(secret)
    assert lock is not None
    with lock:
        assert not os.get_inheritable(lock.fileno())
        assert secret.encode() not in Path("/proc/net/unix").read_bytes()  # names have any bytes
    assert credential_lock.holder_of(secret) is None


def test_a_holder_that_does_not_answer_is_one() -> None:
    """A stopped process keeps its credential."""
    secret = f"s3cret that is held by {os.getpid()}"
    lock = credential_lock.take(secret)
    assert lock is not None
    asking: list[socket.socket] = []
    with lock:
        for _ in range(credential_lock.WAITING + 2):  # nothing accepts them
            one = socket.socket(socket.AF_UNIX)
            one.setblocking(False)
            asking.append(one)
            try:
                one.connect(credential_lock.socket_name(secret))
            except BlockingIOError:
                break
        holder = credential_lock.holder_of(secret)
    for one in asking:
        one.close()

    assert holder is not None
    assert holder.pid == 0


def test_a_platform_is_always_exclusive(fake: FakePlatform) -> None:
    """Two processes of it would answer each message twice: its section cannot say otherwise."""
    text = config(fake, "another").replace(
        "[services.fakechat]\n", "[services.fakechat]\nexclusive = false\n"
    )
    with hosting(text, ["fakechat"], env={"TOKEN": "third"}, up=False) as host:
        checked = host.run("check", json=True).answer["data"]

    (error,) = checked["errors"]
    assert "services.fakechat.exclusive: a platform is always exclusive" in error
