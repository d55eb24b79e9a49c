"""`garrison chaos` on real hosts: a good host has zeros alone, and a bad one has not.

    pytest tests/chaos/test_chaos_command.py -m soak -s

prints the figures of 10,000 kills; each run of the tests has the short form.
"""

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterator

import pytest
from tests.support.host import Host, Hosting, hosting
from tests.support.proc import descriptors
from tests.support.sizes import sizes
from tests.support.waiting import LONGEST_SOAK, PATIENCE, until

from garrison.ipc import InvalidCall, OrderFailed, SupervisorGone
from garrison.supervisor.chaos.load import call_method
from garrison.supervisor.chaos.schedule import PlannedFault

CALLERS = 8
FEW = ("--callers", "2")  # where the load does not matter: it takes the processor from other tests
CONFIG = """
[host]
chaos = true
[plugins.echo]
[plugins.mailbox]
[defaults]
watchdog = 1.0
grace = 1.0
[services.echo]
[services.other]
plugin = "echo"
[services.third]
plugin = "echo"
"""


@pytest.fixture
def running(host: Hosting) -> Host:
    """Return a host that allows chaos, with a mailbox."""
    return host(CONFIG, ["echo"])


@pytest.fixture(scope="module")
def lasting() -> Iterator[Host]:
    """Run one for the tests that leave it as it was."""
    with hosting(CONFIG, ["echo"]) as running:
        yield running


def faults(host: Host) -> int:
    """Return how many faults the events have."""
    return len(host.events("service.fault"))


def files_of_runs(host: Host) -> list[str]:
    """Return the files that runs have left in the services' folders."""
    return [str(path) for path in (host.home / "state" / "services").glob("*/chaos-*")]


# --- a good host ------------------------------------------------------------------------------


@pytest.mark.parametrize(("kills", "services"), sizes((20, 6), (10_000, 20)))
def test_many_kills(host: Hosting, kills: int, services: int) -> None:
    """Many services, the mailbox among them, under eight callers."""
    rows = "".join(f'[services.target-{n}]\nplugin = "echo"\n' for n in range(services - 2))
    config = f"[host]\nchaos = true\n[plugins.echo]\n[plugins.mailbox]\n[services.echo]\n{rows}"
    running = host(config, ["echo"])
    ran = running.run(
        *("chaos", "--kills", str(kills), "--callers", str(CALLERS)), timeout=LONGEST_SOAK
    )
    print(f"\n{ran.out}")

    assert ran.code == 0, ran
    assert ran.err == ""
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert "\x1b" not in ran.out
    assert f"{kills:,} faults in {services} services under {CALLERS} callers" in ran.out
    zeros = re.findall(r"^\w.*?  +(\d+)  (ok|NOT ZERO)$", ran.out, re.MULTILINE)
    assert zeros == [("0", "ok")] * 10
    assert faults(running) <= kills  # the journal may have been rotated
    restarts = sum(row["restarts"] for row in running.rows().values())
    assert restarts == kills
    assert not files_of_runs(running)


def test_each_kind_of_fault(host: Hosting) -> None:
    """Each is over in time, and the services are as before."""
    running = host(CONFIG, ["echo"], forked=False)  # chaos starts its command again
    before = running.rows()
    ran = running.run(
        *("chaos", "--kills", "5", "--faults", "kill,stop,hang,flood,supervisor", *FEW), json=True
    )

    assert ran.code == 0, ran
    assert ran.data["ok"] is True
    assert set(ran.data["zeros"].values()) == {0}
    rows = {row["fault"]: row for row in ran.data["recoveries"] if row["service"] is None}
    assert {fault: row["count"] for fault, row in rows.items()} == dict.fromkeys(
        ("kill", "stop", "hang", "flood", "supervisor"), 1
    )
    assert rows["stop"]["p50_s"] > 1.0  # its watchdog
    assert rows["hang"]["p50_s"] > 1.0
    assert all(row["p50_s"] <= row["p99_s"] <= row["max_s"] for row in rows.values())
    assert ran.data["calls"]["outcomes"]["answered"] > 0
    assert ran.data["posts"]["acknowledged"] == ran.data["posts"]["delivered"] > 0
    assert ran.data["supervisor"]["since_its_last_start"] is True
    assert ran.data["supervisor"]["memory_bytes"] > 1 << 20
    assert ran.data["supervisor"]["descriptors"] > 10
    after = running.rows()
    assert {row["state"] for row in after.values()} == {"running"}
    generations = sum(row["generation"] for row in after.values())
    assert generations - sum(row["generation"] for row in before.values()) == 3
    assert not files_of_runs(running)


def test_a_leak_is_ended_by_the_limit(host: Hosting) -> None:
    """Of services that have one. The output lists the others as left out."""
    limit = "memory_max = 150000000\n[services.other]"
    running = host(CONFIG.replace("[services.other]", limit), ["echo"])
    ran = running.run("chaos", "--kills", "2", "--faults", "leak", *FEW, json=True)

    assert ran.code == 0, ran
    assert ran.data["left_out"] == [
        "leak of other, third, mailbox: nothing would end it (memory_max is 0)"
    ]
    assert {row["service"]: row["count"] for row in ran.data["recoveries"]} == {None: 2, "echo": 2}


def test_a_bound_service_that_restarts_with_another_is_waited_for(host: Hosting) -> None:
    """It may not run when its turn comes, which breaks no promise."""
    bound = CONFIG.replace("[services.third]", '[services.third]\nbind_to = ["echo", "other"]')
    running = host(bound, ["echo"])
    ran = running.run("chaos", "--kills", "12", *FEW, json=True)

    assert ran.code == 0, ran
    assert ran.data["faults"] == 12
    assert {row["service"] for row in ran.data["recoveries"]} >= {"echo", "other", "third"}


def test_it_counts_the_supervisor_s_descriptors(lasting: Host) -> None:
    """As /proc does."""
    head = lasting.head()
    assert head is not None
    assert abs(head["descriptors"] - len(descriptors(lasting.pid))) <= 2


def test_only_named_services_take_faults(lasting: Host) -> None:
    """Globs too; `--for` is in seconds."""
    before = lasting.rows()
    ran = lasting.run("chaos", "--for", "1.0", "oth*", "third", *FEW, json=True)

    assert ran.code == 0, ran
    assert ran.data["services"] == ["other", "third"]
    assert ran.data["seconds"] >= 1.0
    assert ran.data["faults"] > 2
    after = lasting.rows()
    for name in ("echo", "mailbox"):
        assert after[name]["generation"] == before[name]["generation"]
    assert after["other"]["generation"] > before["other"]["generation"]


def test_a_host_without_a_mailbox_gets_calls_alone(host: Hosting) -> None:
    """The output says so. More deaths than its intensity allows do not fail a service."""
    running = host("[host]\nchaos = true\n[plugins.echo]\n[services.echo]\n", ["echo"])
    ran = running.run("chaos", "--kills", "8", "--within", "10", *FEW)

    assert ran.code == 0, ran
    assert "no mailbox" in ran.out


def test_a_supervisor_that_systemd_restarts_is_not_started_twice(host: Hosting) -> None:
    """A service manager has some seconds for it."""
    running = host(CONFIG, ["echo"], env={"INVOCATION_ID": "0" * 32}, forked=False)
    first = running.process
    assert first is not None
    run = running.begin("chaos", "--kills", "1", "--faults", "supervisor", *FEW)
    assert first.wait(PATIENCE) == -signal.SIGKILL
    running.start()
    ran = run.end()
    head = running.head()

    assert ran.code == 0, ran.out
    assert head is not None
    assert head["pid"] == running.pid
    assert not (running.home / "logs" / "supervisor.log").exists()


# --- refusals ---------------------------------------------------------------------------------


async def test_a_host_takes_no_faults_unless_its_config_allows_it(host: Hosting) -> None:
    """The supervisor refuses the orders of any client, and workers lack the methods."""
    running = host("[plugins.echo]\n[services.echo]\n", ["echo"])
    ran = await asyncio.to_thread(running.run, "chaos")
    assert ran.code == 5
    assert "`chaos = true` under [host]" in ran.err
    assert str(running.config) in ran.err
    async with running.connect() as client:
        for verb in ("chaos", "fault"):
            with pytest.raises(OrderFailed, match="takes no faults"):
                await client.order(verb, ("echo",), kind="kill")
        for method, args in (("$chaos_echo", (1,)), ("$chaos_hang", (9.0,)), ("$chaos_leak", (1,))):
            with pytest.raises(InvalidCall, match="no such method"):
                await call_method(client, "echo", method, args, PATIENCE)
    assert running.status("echo")["generation"] == 1


def test_a_worker_that_was_started_before_chaos_was_allowed_is_named(host: Hosting) -> None:
    """It runs on under a supervisor that allows chaos, without the methods for it."""
    running = host("[plugins.echo]\n[services.echo]\n", ["echo"])
    running.end(signal.SIGKILL)
    running.write("config.toml", "[host]\nchaos = true\n" + running.config.read_text())
    running.up()
    ran = running.run("chaos", "--kills", "1")
    assert ran.code == 1
    assert "garrison restart echo" in ran.err
    running.run("restart", "echo")
    assert running.run("chaos", "--kills", "1").code == 0


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("absent",), 4, "no service absent"),
        (("--faults", "kill,kil"), 2, "there is no fault 'kil'"),
        (("--faults", ""), 2, "there is no fault ''"),
        (("--kills", "0"), 2, "--kills"),
        (("--kills", "many"), 2, "--kills"),
        (("--for", "0"), 2, "--for"),
        (("--for", "nan"), 2, "--for"),
        (("--for", "inf"), 2, "--for"),
        (("--for", "1", "--kills", "1"), 2, "not both"),
        (("--callers", "0"), 2, "--callers"),
        (("--within", "-1"), 2, "--within"),
        (("--faults", "leak"), 1, "memory_max is 0"),
        (("asleep",), 1, "asleep is stopped"),
    ],
)
def test_a_run_that_cannot_begin_is_refused(
    quiet: Host, words: tuple[str, ...], code: int, text: str
) -> None:
    """With a sentence, before any fault."""
    ran = quiet.run("chaos", *words)

    assert (ran.code, text in ran.err) == (code, True), ran
    assert not quiet.events("service.fault")


@pytest.fixture(scope="module")
def quiet() -> Iterator[Host]:
    """Return a host that takes no faults."""
    asleep = '[services.asleep]\nplugin = "echo"\n'
    with hosting(f"{CONFIG}{asleep}", ["echo"]) as running:
        running.run("stop", "asleep")
        yield running


def test_without_a_supervisor(quiet: Host) -> None:
    """As for any verb."""
    ran = quiet.run("--home", f"{quiet.folder}/nowhere", "chaos", home=False)
    assert ran.code == 7


@pytest.mark.parametrize("fault", list(PlannedFault))
async def test_fault_orders_for_a_stopped_service_are_refused(
    quiet: Host, fault: PlannedFault
) -> None:
    """And an order for several services."""
    async with quiet.connect() as client:
        with pytest.raises(OrderFailed, match="asleep is stopped"):
            await client.order("fault", ("asleep",), kind=fault.value)
        with pytest.raises(OrderFailed, match="one service at a time"):
            await client.order("fault", ("echo", "other"), kind=fault.value)


async def test_an_order_fails_if_its_supervisor_ends(running: Host) -> None:
    """The next supervisor has not received it."""
    async with running.connect() as client:
        waiting = asyncio.ensure_future(client.order("wait", ("echo",), state="failed"))
        await client.order("status")
        os.kill(running.pid, signal.SIGKILL)
        with pytest.raises(SupervisorGone, match="before it answered"):
            await waiting
        running.end(signal.SIGKILL)
        running.up()  # else its workers wait a long time for a supervisor


# --- interrupted ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_it_in_order(lasting: Host, number: int) -> None:
    """The results so far are printed, and no file is left."""
    running, before = lasting, faults(lasting)
    run = running.begin("chaos", "--kills", "1000000", *FEW)
    until(lambda: faults(running) >= before + 3)
    run.process.send_signal(number)
    ran = run.end()

    assert ran.code == 130, ran.out
    assert "interrupted" in ran.out
    assert ran.out.count("  ok") == 10, ran.out
    assert {row["state"] for row in running.rows().values()} == {"running"}
    assert not files_of_runs(running)


def test_a_second_interrupt_ends_it_at_once(host: Hosting) -> None:
    """Also while a service hangs."""
    running = host(CONFIG.replace("watchdog = 1.0", "watchdog = 500.0"), ["echo"])
    run = running.begin("chaos", "--kills", "1", "--faults", "stop", "echo")
    until(lambda: running.events("service.fault"))
    began = time.monotonic()
    run.process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # so that they are two signals
    run.process.send_signal(signal.SIGINT)
    ran = run.end()

    assert ran.code == 130, ran.out
    assert time.monotonic() - began < PATIENCE
    assert not files_of_runs(running)


def test_the_end_of_the_host_ends_it(running: Host) -> None:
    """The results so far and the reason are printed."""
    run = running.begin("chaos", "--kills", "1000000", *FEW)
    until(lambda: faults(running) >= 3)
    assert running.end() == 0
    ran = run.end()

    assert ran.code == 7, ran.out
    assert "it has ended in mid-run" in ran.out
    assert "calls past their deadline" in ran.out
    assert not files_of_runs(running)


def test_a_service_that_an_operator_stops_is_left_alone(running: Host) -> None:
    """No promise is broken by an order. Messages to the service are kept."""
    before = faults(running)
    run = running.begin("chaos", "--for", "600", *FEW, "--json")
    until(lambda: faults(running) >= before + 3)
    running.ask("stop", "third")
    running.ask("restart", "other")
    before = faults(running)
    until(lambda: faults(running) > before)
    run.process.send_signal(signal.SIGINT)
    ran = run.end()

    assert ran.code == 130, ran.out
    assert "third from then on: it was stopped in mid-run" in ran.out
    assert running.status("third")["state"] == "stopped"
    assert running.status("other")["state"] == "running"


def test_runs_exclude_each_other_and_remove_the_files_of_a_killed_one(lasting: Host) -> None:
    """Two would count each other's faults as failures of the host."""
    running = lasting
    run = running.begin("chaos", "--kills", "1000000", *FEW)
    until(lambda: files_of_runs(running))
    ran = running.run("chaos", "--kills", "1")
    run.kill()

    assert ran.code == 1
    assert "another `garrison chaos` is under way" in ran.err
    assert files_of_runs(running)
    # A message of the killed run that is delivered late would write its file again.
    until(lambda: not asyncio.run(running.call("mailbox", "ls"))["letters"])
    until(lambda: not any(row["in_flight"] for row in running.rows().values()))
    assert running.run("chaos", "--kills", "1").code == 0
    assert not files_of_runs(running)


# --- a bad host -------------------------------------------------------------------------------


def test_a_service_that_does_not_come_back_is_found(host: Hosting) -> None:
    """It is named with the reason, and takes no more faults."""
    config = "[host]\nchaos = true\n[plugins.grudge]\n[plugins.echo]\n[services.once]\n"
    running = host(f"{config}[services.echo]\n", ["grudge", "echo"])
    words = ("--kills", "6", "--within", "2", "--callers", "1")
    ran = running.run("chaos", *words, "once", "echo")

    assert ran.code == 1, ran
    shown = " ".join(ran.out.split())
    assert "services that were not back in time 1 NOT ZERO" in shown
    assert "kill of once: it was not back within 2 s; it is " in shown  # backoff, or starting
    assert "once is enough" in shown
    assert shown.count("NOT ZERO") == 1
    assert all(len(line) <= 80 for line in ran.out.splitlines())
    assert running.rows()["echo"]["restarts"] == 5


def test_a_receiver_that_loses_messages_is_found(host: Hosting) -> None:
    """A message that was acknowledged and is nowhere is lost."""
    config = "[host]\nchaos = true\n[plugins.grudge]\n[plugins.mailbox]\n[services.forgetful]\n"
    running = host(config, ["grudge"])
    ran = running.run("chaos", "--for", "1", "--callers", "1", "forgetful", json=True)
    data = ran.data

    assert ran.code == 1, ran
    assert data["ok"] is False
    assert {key for key, count in data["zeros"].items() if count} == {"messages_lost"}
    assert data["posts"]["acknowledged"] > data["posts"]["delivered"]
    lost = data["zeros"]["messages_lost"]
    assert data["posts"]["acknowledged"] - data["posts"]["delivered"] == lost
    assert "forgetful never received message" in data["problems"][0]
