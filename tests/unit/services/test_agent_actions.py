"""Which actions are run: by the names in responses, or by what a model says."""

from typing import Any

import pytest

from garrison.workers import Action, Content
from garrison.workers.services.agent.actions import (
    Reply,
    Run,
    Say,
    Unknown,
    chosen,
    find,
    in_order,
    plan_steps,
    question,
)

TIP = Action("SEND_TIP", "Sends money", similes=["PAY", "GIVE_MONEY"], examples=["tip ada 5"])
ROLL = Action("roll dice", "Rolls", priority=3)
PAY = Action("pay", "Pays")
ACTIONS = [TIP, ROLL]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SEND_TIP", TIP),
        ("send tip", TIP),
        ("sendTip", TIP),
        ("Send-Tip ", TIP),
        ("give_money", TIP),
        ("ROLL_DICE", ROLL),
        ("SEND", None),
        ("", None),
        ("_", None),
    ],
)
def test_names(name: str, expected: Action | None) -> None:
    """Case, underscores, hyphens and spaces do not count; then come similes."""
    assert find(name, ACTIONS) is expected


def test_a_name_goes_before_a_simile() -> None:
    """Whichever comes first in the list."""
    assert find("PAY", [TIP, PAY]) is PAY
    assert find("PAY", [TIP]) is TIP


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content("hi"), [Say(Content("hi"))]),
        (Content(), []),
        (Content("hi", actions=["REPLY"]), [Say(Content("hi", actions=["REPLY"]))]),
        (Content(actions=["reply"]), [Reply()]),
        (Content("hi", actions=["IGNORE"]), []),
        (Content("hi", actions=["none", "SEND_TIP"]), []),
        (Content("hi", actions=["SEND_TIP"]), [Run(TIP)]),
        (Content(actions=["ROLL_DICE", "SEND_TIP", "IGNORE"]), [Run(ROLL), Run(TIP)]),
        (Content(actions=["SEND_TIP", "REPLY"]), [Run(TIP), Reply()]),
        (
            Content(actions=["SEND_TAP", "ROLL_DICE"]),
            [
                Unknown("SEND_TAP", "there is no action 'SEND_TAP'; did you mean SEND_TIP?"),
                Run(ROLL),
            ],
        ),
        (Content(actions=["x"]), [Unknown("x", "there is no action 'x'")]),
    ],
)
def test_what_a_response_asks_for(content: Content, expected: list[Any]) -> None:
    """In the order in which it names them."""
    assert plan_steps(content, ACTIONS) == expected


@pytest.mark.parametrize("name", ["REPLY", "IGNORE", "NONE"])
def test_a_plugins_own_goes_before_the_built_in(name: str) -> None:
    """It has the name, so it is run."""
    own = Action(name)

    assert plan_steps(Content("hi", actions=[name.lower()]), [own]) == [Run(own)]


def test_priorities() -> None:
    """The higher first; among equals, as they are configured."""
    assert in_order([TIP, PAY, ROLL]) == [ROLL, TIP, PAY]


def test_a_model_is_shown_what_can_be_done() -> None:
    """Names, descriptions, examples, and what there always is."""
    text = question(ACTIONS)

    for part in ("- SEND_TIP: Sends money", "tip ada 5", "- REPLY: ", "- IGNORE: ", "- NONE: "):
        assert part in text
    assert text.count("REPLY") == 1
    assert question([Action("REPLY", "My own")]).count("REPLY") == 1
    assert question([Action("x", examples=[{"object": object()}, [{"name": "a"}]])])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"actions": ["SEND_TIP"]}', ["SEND_TIP"]),
        ('```json\n{"actions": ["roll dice", "REPLY"]}\n```', ["roll dice", "REPLY"]),
        ('I think {that} {"actions": "IGNORE"} fits.', ["IGNORE"]),
        ('{"action": "SEND_TIP, REPLY"}', ["SEND_TIP", "REPLY"]),
        ('["NONE"]', ["NONE"]),
        ('{"actions": ["SEND_TIP", "send_tip", "MADE_UP", 3]}', ["SEND_TIP"]),
        ("SEND_TIP", ["SEND_TIP"]),
        ("**send_tip**.", ["send_tip"]),
        ("", ["REPLY"]),
        ("I am sad that you ask.", ["REPLY"]),
        ('{"actions": []}', ["REPLY"]),
        ('{"actions": {"SEND_TIP": 1}}', ["REPLY"]),
        ('{"actions": ["MADE_UP"]}', ["REPLY"]),
        ("[" * 10_000, ["REPLY"]),
        ("\ud800", ["REPLY"]),
    ],
)
def test_a_models_answer_is_read_with_patience(text: str, expected: list[str]) -> None:
    """What cannot be read is REPLY; what nobody has is left out."""
    assert chosen(text, ACTIONS) == expected
