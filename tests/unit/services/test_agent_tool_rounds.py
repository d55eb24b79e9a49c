"""The rounds of a model that calls actions: what is offered, planned, and told to it."""

from typing import Any

import pytest

from garrison.workers import Action, ActionResult, Content, Generated, Memory, ToolCall
from garrison.workers.services.agent.actions import choice_schema, names_of
from garrison.workers.services.agent.record.rows import (
    MessageKey,
    Part,
    PlannedCall,
    PlannedStep,
    Record,
    Round,
    StepKind,
    StepState,
    Why,
    call_of,
)
from garrison.workers.services.agent.tool_rounds import (
    CALLS_MOST,
    RESULT_MOST,
    calls_left,
    conversation,
    ended_early,
    goes_on,
    offered,
    plan_round,
    result,
    tool_names,
    tools,
)

SIDES = {"type": "object", "properties": {"sides": {"type": "integer"}}}
ROLL = Action("roll dice", "Rolls", priority=3, parameters=SIDES, examples=["roll 6"])
TIP = Action("SEND_TIP", "Sends money", parameters={})
LOOK = Action("Blick!", parameters={})
ACTIONS: list[Any] = [ROLL, TIP, LOOK]
RUN, UNKNOWN, SAY, REPLY = StepKind.RUN, StepKind.UNKNOWN, StepKind.SAY, StepKind.REPLY
ENDED = StepState.ENDED


def record(
    rounds: list[Round], steps: list[PlannedStep], parts: list[Part] | None = None
) -> Record:
    """Return a record of an answer."""
    memory = Memory(content=Content("Hi"), id="m")
    why, key = Why(rounds=rounds), MessageKey("chat", "r", "m")
    return Record(key, memory, 1.0, why=why, steps=steps, parts=parts or [])


def part(number: int, step: int, text: str) -> Part:
    """Return a part that a step sent."""
    return Part(number, step, Memory(content=Content(text), id=str(number)))


def test_the_actions_that_apply_are_offered() -> None:
    """Highest priority first; also to say nothing, unless an action has that name."""
    considered = {"SEND_TIP": True, "roll dice": True, "Blick!": False, "gone": True}
    found = offered(considered, [TIP, LOOK, ROLL])
    assert found == [ROLL, TIP]
    shown = tools(found)
    assert [one.name for one in shown] == ["roll_dice", "SEND_TIP", "IGNORE", "NONE"]
    assert (shown[0].description, shown[0].parameters) == ("Rolls\nFor example: roll 6", SIDES)
    ignore: Any = Action("ignore", parameters={})
    assert [one.name for one in tools([ignore])] == ["ignore", "NONE"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a b", "a_b"], ["a_b", "a_b_1"]),
        (["würfeln", "掷骰子"], ["w_rfeln", "1"]),
        (["x" * 70, "x" * 71], ["x" * 64, "x" * 56 + "_1"]),
    ],
)
def test_tools_have_names_that_every_provider_takes(names: list[str], expected: list[str]) -> None:
    """Different ones."""
    actions: list[Any] = [Action(name, parameters={}) for name in names]
    assert list(tool_names(actions)) == expected


def planned(*calls: ToolCall, text: str = "", most: int = 9) -> Any:
    """Return the round and, in short, the steps of what a model generated."""
    one, steps = plan_round(Generated(text, list(calls)), ACTIONS, 4, most, str.upper)
    shown = [
        (step.number, step.kind, step.name or getattr(step.content, "text", "")) for step in steps
    ]
    return one, shown


def test_what_follows_from_calls() -> None:
    """A step each; the wrong ones are told. The text beside calls is not sent."""
    roll = ToolCall("x", "roll_dice", {"sides": 6})
    bad = ToolCall("y", "SEND_TIP", problem="its arguments are no JSON")
    other = ToolCall("z", "fly")
    one, steps = planned(roll, bad, other, text="Let me see")
    assert steps == [(4, RUN, "roll dice"), (5, UNKNOWN, "SEND_TIP"), (6, UNKNOWN, "fly")]
    assert one == Round(
        "Let me see",
        [
            PlannedCall(4, "roll_dice", {"sides": 6}),
            PlannedCall(5, "SEND_TIP", problem="its arguments are no JSON"),
            PlannedCall(6, "fly", problem="there is no action 'fly'"),
        ],
    )


def test_the_last_round() -> None:
    """A text, nothing at all, silence, or no call left."""
    roll = ToolCall("x", "roll_dice")
    assert planned(text=" done ") == (Round(is_last=True), [(4, SAY, "DONE")])
    assert planned() == (Round(is_last=True), [(4, REPLY, "")])  # only if no step succeeded
    assert planned(ToolCall("x", "IGNORE"), text="hm") == (Round("hm", is_last=True), [])
    one, steps = planned(roll, ToolCall("x", "NONE"), roll)
    assert (one.is_last, steps) == (True, [(4, RUN, "roll dice")])
    assert planned(roll, roll, most=1)[1] == [(4, RUN, "roll dice")]
    assert planned(roll, text="enough", most=0) == (Round(is_last=True), [(4, SAY, "ENOUGH")])


CALL = Round("", [PlannedCall(0, "roll_dice", {"sides": 6})])
LAST = Round(is_last=True)


@pytest.mark.parametrize(
    ("rounds", "state", "expected"),
    [
        ([], ENDED, False),  # it was not asked with tools
        ([CALL], ENDED, True),
        ([CALL, LAST], ENDED, False),
        ([CALL], StepState.INTERRUPTED, False),  # nothing is improvised over it
    ],
)
def test_whether_the_model_is_asked_again(
    rounds: list[Round], state: StepState, expected: bool
) -> None:
    """From the record alone."""
    assert goes_on(record(rounds, [PlannedStep(0, RUN, state=state)])) is expected


def test_rounds_and_calls_are_bounded() -> None:
    """Then the model answers in text."""
    many = Round("", [PlannedCall(n, "x") for n in range(CALLS_MOST - 1)])
    assert calls_left(record([], []), 2) == CALLS_MOST
    assert calls_left(record([CALL], []), 2) == CALLS_MOST - 1
    assert calls_left(record([CALL, CALL], []), 2) == 0
    assert calls_left(record([many], []), 9) == 1
    assert calls_left(record([many, CALL, CALL], []), 9) == 0


def test_the_conversation_goes_on_from_the_record() -> None:
    """Each call with its result: what it returned, what it sent, why it failed."""
    rolled = ActionResult(text="5", values={"rolled": 5}, data={"of": 6})
    failed = ActionResult(success=False, error="no money")
    steps = [
        PlannedStep(0, RUN, "roll dice", state=ENDED, results=[rolled]),
        PlannedStep(1, RUN, "SEND_TIP", state=ENDED, results=[failed]),
        PlannedStep(2, RUN, "Blick!", state=ENDED),
        PlannedStep(3, SAY, state=ENDED),
    ]
    calls = [PlannedCall(0, "roll_dice", {"sides": 6}), PlannedCall(1, "SEND_TIP")]
    rounds = [Round("Sure", calls), Round("", [PlannedCall(2, "Blick_")]), LAST]
    one = record(rounds, steps, [part(0, 2, "dark"), part(1, 3, "bye")])

    assert conversation(one) == [
        {
            "role": "assistant",
            "content": "Sure",
            "tool_calls": [
                ToolCall("call_0", "roll_dice", {"sides": 6}),
                ToolCall("call_1", "SEND_TIP"),
            ],
        },
        {
            "role": "tool",
            "content": '{"rolled":5,"of":6,"text":"5","success":true}',
            "tool_call_id": "call_0",
        },
        {
            "role": "tool",
            "content": '{"error":"no money","success":false}',
            "tool_call_id": "call_1",
        },
        {"role": "assistant", "content": "", "tool_calls": [ToolCall("call_2", "Blick_")]},
        {"role": "tool", "content": '{"success":true,"sent":["dark"]}', "tool_call_id": "call_2"},
    ]
    assert call_of(one, 0) == calls[0]
    assert call_of(one, 3) is None
    steps[0].results = [ActionResult(text="x" * 10_000)]
    assert len(result(one, 0)) < RESULT_MOST + 40


def test_without_providers_that_take_tools() -> None:
    """Another one replies, unless something was sent."""
    silent = record([CALL], [PlannedStep(0, RUN, state=ENDED)])
    assert ended_early(silent, "no model") == (LAST, PlannedStep(1, REPLY))
    sent = record([CALL], [PlannedStep(0, RUN, state=ENDED)], [part(0, 0, "5")])
    failed = Round("", [PlannedCall(1, "REPLY", problem="no model")], is_last=True)
    assert ended_early(sent, "no model") == (failed, PlannedStep(1, UNKNOWN, "REPLY"))


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        ({"actions": ["SEND_TIP", "REPLY", "SEND_TIP"]}, ["SEND_TIP", "REPLY"]),
        ({"actions": ["fly", 3]}, ["REPLY"]),
        ({"actions": "SEND_TIP"}, ["REPLY"]),
        (None, ["REPLY"]),
        ({"actions": ["IGNORE"]}, ["IGNORE"]),
    ],
)
def test_a_choice_by_schema(chosen: Any, names: list[str]) -> None:
    """For providers without tools."""
    assert names_of(chosen, ACTIONS) == names
    assert choice_schema([TIP])["properties"]["actions"]["items"] == {
        "enum": ["SEND_TIP", "REPLY", "IGNORE", "NONE"]
    }
