"""What authors' functions are given, and what is made of what they return."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from garrison.ipc.messages import Manifest
from garrison.workers import (
    Action,
    ActionResult,
    Content,
    EmbedParams,
    Evaluator,
    GenerateTextParams,
    Memory,
    Plugin,
    Provider,
    as_memory,
)
from garrison.workers.hidden import Made, fewer, fitted, made_of
from garrison.workers.parts import MANIFEST_MOST, Parts

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (True, []),
        (False, [Made(result=ActionResult(success=False, error="it said False", action="A"))]),
        ("hi", [Made(Content("hi"))]),
        ({"text": "hi"}, [Made(Content("hi"))]),
        (Memory(content=Content("hi")), [Made(Content("hi"))]),
        (ActionResult(text="done"), [Made(result=ActionResult(text="done", action="A"))]),
        ({"success": True}, [Made(result=ActionResult(action="A"))]),
        (["hi", None, ("ho",)], [Made(Content("hi")), Made(Content("ho"))]),
    ],
)
def test_what_an_action_returns_is_said_or_is_its_result(value: Any, expected: list[Made]) -> None:
    """A text and a Content are said; a result is not."""
    assert list(made_of(value, "A")) == expected


@pytest.mark.parametrize("value", [1, object(), {"text": 1}, [2]])
def test_what_means_nothing_is_refused(value: Any) -> None:
    """It is the author's mistake, and told as one."""
    with pytest.raises((TypeError, msgspec.ValidationError)):
        list(made_of(value, "A"))


def test_a_function_is_given_as_much_as_it_takes() -> None:
    """The first arguments, in order; all of them where it takes any number."""
    assert fewer(lambda: "none", 1, 2) == "none"
    assert fewer(lambda a: a, 1, 2) == 1
    assert fewer(lambda *all_of_them: all_of_them, 1, 2) == (1, 2)
    assert fewer(lambda a, b=5: (a, b), 1, 2) == (1, 2)
    assert fewer(max, 1, 2) == 2  # its signature cannot be read


def typed(runtime: "Runtime", params: GenerateTextParams) -> None: ...


def strung(runtime: "Runtime", params: "Memory") -> None: ...


def unknown(runtime: "Runtime", params: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


def bare(runtime: Any, params) -> None: ...  # type: ignore[no-untyped-def]


@pytest.mark.parametrize(
    ("function", "model_type", "value", "expected"),
    [
        (typed, "X", {"prompt": "p"}, GenerateTextParams("p")),
        (strung, "X", {"content": {"text": "t"}}, Memory(content=Content("t"))),
        (unknown, "X", {"prompt": "p"}, {"prompt": "p"}),
        (unknown, "TEXT_LARGE", {"prompt": "p"}, GenerateTextParams("p")),
        (bare, "TEXT_EMBEDDING", {"text": "p"}, EmbedParams("p")),
        (bare, "IMAGE", {"text": "p"}, {"text": "p"}),
        (lambda: None, "IMAGE", 1, 1),
    ],
)
def test_params_become_what_the_handler_says(
    function: Callable[..., Any], model_type: str, value: Any, expected: Any
) -> None:
    """By its annotation, also one that stands in quotes; without one by the model's type."""
    assert fitted(function, value, 1, model_type) == expected


def test_messages_come_in_many_forms() -> None:
    """Each has an id and a time in the end, and keeps those that it has."""
    assert as_memory("hi").content.text == "hi"
    assert as_memory({"text": "hi"}).content.text == "hi"
    made = as_memory({"content": {"text": "hi"}, "id": "1", "created_at": 5.0, "room_id": "r"})
    assert (made.id, made.created_at, made.room_id) == ("1", 5.0, "r")
    assert as_memory("a").id != as_memory("a").id
    assert as_memory("a").created_at > 0
    with pytest.raises(TypeError, match="not int"):
        as_memory(1)  # type: ignore[arg-type]


def test_parts_without_a_name_or_kind_are_refused() -> None:
    """At once, where they are registered."""
    with pytest.raises(ValueError, match="has no name"):
        Parts().add(Action(description="nameless"))
    with pytest.raises(TypeError, match="expected an Action"):
        Parts().add("SHOUT")  # type: ignore[arg-type]


def test_what_everybody_is_told_is_bounded_and_can_travel() -> None:
    """Examples of a megabyte, or of no known type, are the author's to mend."""
    parts = Parts()
    parts.add(Action("A", examples=["x" * MANIFEST_MOST]))
    with pytest.raises(ValueError, match="shorten examples"):
        parts.told_in(Manifest("a"))


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Action("A", examples=[object()]), "action A cannot be told.* type object"),
        (Action("A", examples=[2**70]), "action A cannot be told"),
        (Action("A", examples=[{(1, 2): "no key of JSON's"}]), "action A cannot be told.*keys"),
        (Action("A", similes=[1]), r"action A cannot be told.*Expected `str`.*similes"),  # type: ignore[list-item]
        (Action("A", priority=1.5), r"action A cannot be told.*Expected `int`.*priority"),  # type: ignore[arg-type]
        (Action("A", 5), "action A cannot be told"),  # type: ignore[arg-type]
        (Provider("P", position="1"), "provider P cannot be told.*position"),  # type: ignore[arg-type]
        (Evaluator("E", examples=[{None: 1}]), "evaluator E cannot be told.*keys"),
    ],
)
def test_what_cannot_be_told_is_named(part: Action | Provider | Evaluator, problem: str) -> None:
    """To its author, before a supervisor or anybody else is to read it, or to write it down."""
    parts = Parts()
    parts.add(part)
    with pytest.raises(ValueError, match=problem):
        parts.told_in(Manifest("a"))


def test_one_simile_is_a_text_alone() -> None:
    """It is not one of each of its letters."""

    class Loud(Action):
        name = "SHOUT"
        similes = "YELL"

    assert list(Loud().similes) == ["YELL"]
    assert Evaluator("E", similes="NOTE").similes == ["NOTE"]


def test_a_plugin_without_services_has_one_where_it_needs_a_worker() -> None:
    """Under its NAME; one that has nothing at all needs none."""
    (cls,) = Plugin("p", providers=[Provider("X")]).hosted("named")
    assert cls.service_type == "named"
    (cls,) = Plugin("p", init=lambda config, runtime: None).hosted("named")
    assert cls.service_type == "named"
    assert Plugin("p").hosted("named") == []
