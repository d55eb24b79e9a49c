"""The choice of actions: by the names in responses, or by a model."""

from typing import Any

import pytest

from garrison.workers import Action, Content
from garrison.workers.services.agent.actions import (
    Reply,
    Run,
    Say,
    Unknown,
    find,
    in_order,
    parse_choice,
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
    """Case, underscores, hyphens and spaces do not matter; names go before similes."""
    assert find(name, ACTIONS) is expected


def test_a_name_goes_before_a_simile() -> None:
    """In any order of the list."""
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
def test_the_steps_of_a_response(content: Content, expected: list[Any]) -> None:
    """In the order of the names."""
    assert plan_steps(content, ACTIONS) == expected


@pytest.mark.parametrize("name", ["REPLY", "IGNORE", "NONE"])
def test_a_plugins_own_goes_before_the_built_in(name: str) -> None:
    """Its action replaces the built-in one."""
    own = Action(name)

    assert plan_steps(Content("hi", actions=[name.lower()]), [own]) == [Run(own)]


def test_priorities() -> None:
    """The highest first; equal ones in the configured order."""
    assert in_order([TIP, PAY, ROLL]) == [ROLL, TIP, PAY]


def test_a_model_gets_the_possible_actions() -> None:
    """Names, descriptions, examples, and the built-in choices."""
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
def test_a_models_answer_is_parsed_leniently(text: str, expected: list[str]) -> None:
    """An answer without names is REPLY; unknown names are left out."""
    assert parse_choice(text, ACTIONS) == expected
