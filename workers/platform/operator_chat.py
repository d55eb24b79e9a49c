"""Answers the orders that operators give in the chat, without the agent; each is answered once.

The answer's id is made of the order's message, and an order names that message as its reason: after
a kill, what was sent is not sent again, and a service that was restarted is not restarted again.
Durations are seconds.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from garrison.ipc import Busy, GarrisonError, NotSent, OrderFailed, RetryLater
from garrison.ipc.causes import DEPTH_MOST, services_of
from garrison.workers.agents.answer_ids import answer_id
from garrison.workers.agents.content import Content, Memory
from garrison.workers.runtime import Runtime
from garrison.workers.sqlite.files import replace_file

from . import chat_answers
from .chat_orders import (
    CONFIRMED,
    NAMED,
    ChatOrder,
    Question,
    Questions,
    Verb,
    code_of,
    is_order,
    parse,
)
from .clocks import read_clocks
from .messages import Sent

log = logging.getLogger(__name__)

FILE = "operators.json"
ORDER_S = 20.0  # for an order to be carried out; then its answer says that it is under way
READ_S = 10.0  # for what is read
EVENTS_MOST = 100  # of a service, in which an order that was given is looked for
SEND_TRIES = 10
SUPERVISOR = {Verb.RESTART: "restart", Verb.PAUSE: "pause", Verb.RESUME: "resume"}

GIVEN = frozenset({"service.ordered", "service.paused"})  # events of orders

Send = Callable[[str, Content, str, bool], Awaitable[Sent]]


class OperatorChat:
    """The orders of one platform.

    Args:
        runtime: The platform's.
        operators: Ids of the persons who may give orders.
        send: Sends a content to a channel under an id; `expect` as of `send_message`.
    """

    def __init__(self, runtime: Runtime, operators: list[str], send: Send) -> None:
        self._runtime, self._operators, self._send = runtime, operators, send
        self._path: Path = runtime.data_folder / FILE
        self._questions: Questions | None = None  # None: not read yet
        self._lock = asyncio.Lock()  # over the questions and their file

    def handles(self, memory: Memory) -> bool:
        """Return whether a message is an order of an operator."""
        is_plain = not memory.content.actions
        return is_plain and is_order(memory.entity_id, memory.content.text, self._operators)

    async def answer(self, memory: Memory, expect: bool) -> None:
        """Carry out an order and send its answer; return once it is sent, or cannot be.

        Args:
            memory: The order's message, as it is handed over.
            expect: The answer may have been sent before.
        """
        order = parse(memory.content.text)
        assert order is not None
        log.info("operator.order person=%s text=%s", memory.entity_id, " ".join(order[:2]))
        try:
            async with asyncio.timeout(ORDER_S + READ_S):
                content, after = await self._carried_out(memory, order)
        except Exception as error:  # noqa: BLE001 (it is answered; others' messages follow)
            log.warning("operator.failed message=%s error=%r", memory.id, error)
            content, after = Content(_problem(error)), None
        await self._reply(memory, content, expect)
        if after is not None:
            await self._give_last(after)

    # --- orders -------------------------------------------------------------------------------

    async def _carried_out(
        self, memory: Memory, order: ChatOrder
    ) -> tuple[Content, Question | None]:
        """Return the answer, and an order that ends this platform and is given after it."""
        if order.problem:
            return Content(order.problem), None
        if order.verb in NAMED and (unknown := self._unknown(order.name)):
            return Content(unknown), None
        match order.verb:
            case Verb.SERVICES:
                rows = (await self._status()) or []
                return Content(chat_answers.services_text(rows)), None
            case Verb.WHY:
                rows = await self._with_dependencies(order.name)
                text = chat_answers.why_text(order.name, rows, read_clocks()[0])
                return Content(text), None
            case Verb.LOGS:
                return Content(await self._logs(order.name)), None
            case Verb.NO:
                return Content(await self._drop(memory, order)), None
            case Verb.RESUME:
                given = await self._give(order.verb, order.name, memory.entity_id, memory.id)
                return Content(given), None
            case Verb.YES:
                return await self._confirmed(memory, order)
            case _:
                return await self._question(memory, order), None

    def _unknown(self, name: str) -> str:
        """Return the answer where there is no such service; "" if there is."""
        known = [entry.name for entry in self._runtime.client.directory]
        return "" if name in known else chat_answers.unknown_text(name, known)

    async def _with_dependencies(self, name: str) -> list[dict[str, Any]]:
        """Return the row of a service and those of all services below it."""
        rows = await self._status(name)
        known = {entry.name for entry in self._runtime.client.directory}
        for _ in range(DEPTH_MOST):
            missing = services_of(rows) & known - {row["name"] for row in rows}
            if not missing:
                break
            rows += await self._status(*sorted(missing))
        return rows

    async def _status(self, *names: str) -> list[dict[str, Any]]:
        data = await self._runtime.client.order("status", names, READ_S)
        rows: list[dict[str, Any]] = data["services"]
        return rows

    async def _logs(self, name: str) -> str:
        number = chat_answers.LOG_LINES
        lines = self._runtime.client.logs(name, number=number, follow=False)
        return chat_answers.logs_text(name, [line async for _, line in lines])

    async def _question(self, memory: Memory, order: ChatOrder) -> Content:
        async with self._lock:
            questions = await self._read()
            who = (memory.entity_id, memory.room_id)
            code = questions.ask(memory.id, *who, order, read_clocks())
            await self._write(questions)
        question = next(one for one in questions.waiting if one.code == code)
        text = chat_answers.question_text(question, order.name == self._runtime.name)
        choices = [{"label": verb.title(), "value": f"/{verb} {code}"} for verb in ("yes", "no")]
        return Content(text, data={"choices": choices})

    async def _drop(self, memory: Memory, order: ChatOrder) -> str:
        async with self._lock:
            questions = await self._read()
            who = (memory.entity_id, memory.room_id)
            had = questions.drop(memory.id, *who, order.name)
            await self._write(questions)
        return chat_answers.NOT_DONE if had else chat_answers.NOTHING_WAITS

    async def _confirmed(self, memory: Memory, order: ChatOrder) -> tuple[Content, Question | None]:
        async with self._lock:
            questions = await self._read()
            who = (memory.entity_id, memory.room_id)
            found = questions.confirm(memory.id, *who, order.name, read_clocks())
            await self._write(questions)
        if found is None:
            return Content(chat_answers.NOTHING_WAITS), None
        if found.name == self._runtime.name:
            return Content(chat_answers.begun_text(found.verb, found.name)), found
        given = await self._give(found.verb, found.name, memory.entity_id, memory.id)
        return Content(given), None

    async def _give(self, verb: Verb, name: str, person: str, message: str) -> str:
        """Give the supervisor an order, unless it was given before a kill; return the answer."""
        why, order = _reason_of(person, message), self._runtime.client.order
        if verb not in CONFIRMED or not await self._was_given(name, why):
            try:
                await order(SUPERVISOR[verb], (name,), ORDER_S, why=why, person=person)
            except OrderFailed as error:
                if error.code != "timed_out":
                    raise
                return f"It takes longer than {ORDER_S:g} s and goes on: /why {name}"
        return chat_answers.done_text(verb, name)

    async def _give_last(self, question: Question) -> None:
        """Give an order that ends this platform: its answer is sent."""
        person, message = question.person, question.answered_by
        try:
            await self._give(question.verb, question.name, person, message)
        except (GarrisonError, OSError) as error:
            log.error("operator.order_failed service=%s error=%s", question.name, error)

    async def _was_given(self, name: str, why: str) -> bool:
        """Return whether the host's events have an order with this reason."""
        events = self._runtime.client.events(name, number=EVENTS_MOST, follow=False)
        return any([one.event in GIVEN and one.data.get("why") == why async for one in events])

    # --- the answer ---------------------------------------------------------------------------

    async def _reply(self, memory: Memory, content: Content, expect: bool) -> None:
        name = self._runtime.name
        answer = msgspec.structs.replace(
            content,
            text=self._runtime.redacted(content.text),
            source=name,
            in_reply_to=memory.id,
        )
        send = answer_id(name, memory.room_id, memory.id, "", 0)
        for _ in range(SEND_TRIES):
            try:
                await self._send(memory.room_id, answer, send, expect)
            except NotSent as error:
                log.warning("operator.not_answered message=%s error=%s", memory.id, error)
            except (Busy, RetryLater) as error:
                wait = getattr(error, "seconds", None) or 1.0
                log.warning("operator.answer_later message=%s error=%s", memory.id, error)
                await asyncio.sleep(min(wait, 60.0))
                continue
            return

    # --- the file -----------------------------------------------------------------------------

    async def _read(self) -> Questions:
        """Return the questions; those of a damaged file have to be repeated."""
        if self._questions is None:
            try:
                data = await asyncio.to_thread(self._path.read_bytes)
                self._questions = msgspec.json.decode(data, type=Questions)
            except FileNotFoundError:
                self._questions = Questions()
            except (msgspec.MsgspecError, ValueError) as error:
                log.warning("operator.damaged path=%s error=%s", self._path, error)
                self._questions = Questions()
        return self._questions

    async def _write(self, questions: Questions) -> None:
        data = msgspec.json.encode(questions)
        await asyncio.to_thread(replace_file, self._path, data)


def _reason_of(person: str, message: str) -> str:
    """Return why an order is given: by whom, and by which message, in a few characters."""
    return f"by {person[:64]} in the chat ({code_of(message)}{code_of(message[::-1])})"


def _problem(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "The supervisor did not answer in time; nothing is known of it. Try again."
    return f"That failed: {str(error) or type(error).__name__}"
