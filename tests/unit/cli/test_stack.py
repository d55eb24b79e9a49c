"""The stacks of a running service: read from a log, and shown without garrison's own."""

import asyncio
import threading
from typing import Any

from garrison.ipc.messages import ShowTasks, Stacks
from garrison.supervisor.cli.render.stack import authors_part
from garrison.supervisor.cli.stack import threads_of
from garrison.supervisor.control.stack_requests import PENDING_MOST, StackRequests
from garrison.workers.process.stack_report import FRAMES_MOST, stacks_of

LOG = """a line of the service
Thread 0x00007fa0416b16c0 [method_0] (most recent call first):
  File "/srv/bot.py", line 3 in work
  File "/usr/lib/threading.py", line 9 in run
another line, in between
Current thread 0x00007fa0416b2000 (most recent call first):
  File "/srv/bot.py", line 7 in block
  File "/srv/bot.py", line 5 in handle
"""


def test_stacks_are_found_among_the_lines_of_a_log() -> None:
    """The main thread is listed last and shown first; the innermost frame is last."""
    main, other = threads_of(LOG.splitlines())
    assert (main["name"], [one["line"] for one in main["frames"]]) == ("MainThread", [5, 7])
    assert (other["name"], other["frames"][-1]["function"]) == ("method_0", "work")
    assert list(threads_of(["nothing here"])) == []


def test_garrisons_own_frames_are_left_out() -> None:
    """What lies below the last of them is shown, if it has an author's frame."""

    def frames(*files: str) -> list[dict[str, Any]]:
        return [{"file": file, "line": 1, "function": "f"} for file in files]

    own = "/x/garrison/workers/process/main.py"
    shown = authors_part(frames("/v/site-packages/m.py", own, "/srv/bot.py", "<frozen x>"))
    assert [one["file"] for one in shown] == ["/srv/bot.py", "<frozen x>"]
    assert authors_part(frames("/srv/bot.py", own)) == []
    assert authors_part(frames(own, "<frozen x>")) == []
    assert len(authors_part(frames("/x/garrison/workers/services/agent/prompt.py"))) == 1


async def test_a_worker_reports_its_threads_and_tasks() -> None:
    """Deep stacks are cut at their outer end; what a task awaits is followed to its innermost."""
    ready, release = asyncio.Event(), threading.Event()

    async def inner(depth: int) -> None:
        if depth:
            await inner(depth - 1)
        ready.set()
        await asyncio.sleep(60)

    task = asyncio.create_task(inner(FRAMES_MOST + 9), name="deep\ud800")
    thread = threading.Thread(target=release.wait, name="waiting")
    thread.start()
    await ready.wait()
    try:
        stacks = stacks_of(asyncio.get_running_loop(), 7)
    finally:
        release.set()
        task.cancel()
        thread.join()

    deep = next(one for one in stacks.tasks if one.name.startswith("deep"))
    assert stacks.number == 7
    assert (len(deep.frames), deep.left_out) == (FRAMES_MOST, 11)
    assert deep.frames[-1].function == "sleep"
    deep.name.encode()
    assert stacks.threads[0].name == "MainThread"
    assert any(one.name == "waiting" and one.ident for one in stacks.threads)


def test_an_answer_counts_for_the_worker_that_was_asked() -> None:
    """Requests are bounded; one that is forgotten is not answered any more."""
    sent: list[Any] = []
    connected = True

    def send(token: bytes, message: Any) -> bool:
        sent.append((token, message))
        return connected

    requests = StackRequests(send, sent.append)
    number = requests.begin(b"a")
    assert sent == [(b"a", ShowTasks(number))]
    requests.take(b"b", Stacks(number))
    assert requests.answer(number) is None
    requests.take(b"a", Stacks(number))
    assert requests.answer(number) == Stacks(number)
    for _ in range(PENDING_MOST):
        requests.begin(b"a")
    assert requests.answer(number) is None
    connected = False
    assert requests.begin(b"a") == 0
    requests.signal(b"z")
    assert sent[-1] == b"z"
