"""Answers: why an agent answered as it did, from its record."""

import time

from starlette.responses import Response

from garrison.ipc import OrderFailed

from ..answer_rows import merged
from ..call_all import Answers, call_all, has_method, services_of
from ..values import number
from ..visit import Visit
from .page import Page

AGENT, METHOD = "agent", "answers"
SHOWN = 20
MOST = 200


async def show(visit: Visit) -> Response:
    """Return the latest answers, or those that are searched for."""
    find, who = visit.query.get("find", "").strip(), visit.query.get("who", "").strip()
    agent = visit.query.get("agent", "")
    most = number(visit.query.get("n", ""), SHOWN, 1, MOST)
    answers, problem = Answers(), ""
    try:
        # a person is looked for among the latest, because the record has no index of them
        answers = await call_all(visit, AGENT, METHOD, find, MOST if who else most + 1)
    except OrderFailed as error:
        problem = str(error)
    results = {name: one for name, one in answers.results.items() if agent in ("", name)}
    found = merged(results, most, who)
    nothing = find and not found["lines"] and not found["details"] and not answers.away
    return visit.render(
        "answers.html",
        404 if nothing else 200,
        found=found,
        away=_with_advice(visit, answers),
        problem=problem,
        find=find,
        who=who,
        agent=agent,
        agents=[entry.name for entry in services_of(visit, AGENT)],
        most=most,
        latest=MOST,
        more=min(most * 4, MOST) if most < MOST else 0,
        now=time.time(),
    )


def _with_advice(visit: Visit, answers: Answers) -> dict[str, str]:
    """Return why agents did not answer; one of another plugin has no record."""
    without = {
        entry.name: "it keeps no record: it is of another plugin"
        for entry in services_of(visit, AGENT)
        if entry.manifest.methods and not has_method(entry, METHOD)
    }
    return {name: without.get(name, why) for name, why in answers.away.items()}


PAGES = (Page("/answers", show, "Answers"),)
