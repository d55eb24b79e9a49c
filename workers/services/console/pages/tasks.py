"""Tasks: what runs, when next, what failed; run now, pause, resume, drop."""

import time
from urllib.parse import quote, urlencode

from starlette.responses import RedirectResponse, Response

from garrison.ipc import OrderFailed

from ..call_all import Answers, call_all
from ..task_rows import ACTIONS, DONE, LABELS, STATUSES, facts, merged
from ..values import compact, number
from ..visit import Visit
from .page import Page

TASK = "task"
SHOWN = 50
MOST = 500


async def show(visit: Visit) -> Response:
    """Return the list."""
    status = visit.query.get("status", "")
    status = status if status in STATUSES else ""
    most = number(visit.query.get("n", ""), SHOWN, 1, MOST)
    problem = ""
    try:
        answers = await call_all(visit, TASK, "ls", None, status or None, most)
    except OrderFailed as error:
        answers, problem = Answers(), str(error)
    return visit.render(
        "tasks.html",
        found=merged(answers.results.values(), most),
        away=answers.away,
        problem=problem,
        wanted=status,
        statuses=STATUSES,
        more=min(most * 4, MOST) if most < MOST else 0,
        result=_result(visit),
        labels=LABELS,
        now=time.time(),
        acts=visit.acts("host"),
    )


async def show_one(visit: Visit) -> Response:
    """Return one task."""
    agent = visit.query.get("agent", "")
    task = (await call_all(visit, TASK, "show", visit.path["id"], agent or None)).one
    return visit.render(
        "task.html",
        task=task,
        facts=facts(task),
        actions=(*ACTIONS.get(task["status"], ()), "drop"),
        labels=LABELS,
        result=_result(visit),
        compact=compact,
        now=time.time(),
        acts=visit.acts("host"),
    )


async def act(visit: Visit) -> Response:
    """Change one task; a drop needs a confirmation."""
    verb, task_id = visit.form.get("do", ""), visit.form.get("id", "")
    agent = visit.form.get("agent", "")
    if verb not in DONE or not task_id:
        raise OrderFailed("usage", f"name a task, and one of {', '.join(DONE)}")
    if verb == "drop" and visit.form.get("sure") != "yes":
        task = (await call_all(visit, TASK, "show", task_id, agent or None)).one
        return visit.render("task_drop.html", task=task)
    answers = await call_all(visit, TASK, verb, [task_id], agent or None)
    visit.runtime.logger.info(
        "console.acted verb=tasks.%s user=%s id=%s", verb, visit.session.user, task_id
    )
    assert answers.one is not None  # it raises where no service has done it
    parameters = {"did": verb, "of": task_id, **({"agent": agent} if agent else {})}
    there = "/tasks" if verb == "drop" else f"/tasks/{quote(task_id, safe='')}"
    return RedirectResponse(f"{there}?{urlencode(parameters)}", 303)


def _result(visit: Visit) -> str:
    """Return what was done before this page, in words."""
    outcome, task_id = DONE.get(visit.query.get("did", "")), visit.query.get("of", "")
    return f"Task {task_id[:100]} {outcome}." if outcome and task_id else ""


PAGES = (
    Page("/tasks", show, "Tasks"),
    Page("/tasks/act", act, method="POST", acts=True),
    Page("/tasks/{id:path}", show_one),
)
