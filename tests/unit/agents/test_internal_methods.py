"""What authors' functions are given, and what is made of what they return."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from garrison.ipc import RemoteError
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
    ProviderResult,
    Service,
    as_memory,
)
from garrison.workers.agents.internal_methods import (
    ActionOutput,
    call_with_prefix,
    fitted,
    made_of,
    told_by,
)
from garrison.workers.agents.registry import MANIFEST_MOST, ComponentRegistry
from garrison.workers.testing import run

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (True, []),
        (
            False,
            [ActionOutput(result=ActionResult(success=False, error="it said False", action="A"))],
        ),
        ("hi", [ActionOutput(Content("hi"))]),
        ({"text": "hi"}, [ActionOutput(Content("hi"))]),
        (Memory(content=Content("hi")), [ActionOutput(Content("hi"))]),
        (ActionResult(text="done"), [ActionOutput(result=ActionResult(text="done", action="A"))]),
        ({"success": True}, [ActionOutput(result=ActionResult(action="A"))]),
        (["hi", None, ("ho",)], [ActionOutput(Content("hi")), ActionOutput(Content("ho"))]),
    ],
)
def test_what_an_action_returns_is_said_or_is_its_result(
    value: Any, expected: list[ActionOutput]
) -> None:
    """A text and a Content are said; a result is not."""
    assert list(made_of(value, "A")) == expected


@pytest.mark.parametrize("value", [1, object(), {"text": 1}, [2], {"txt": "hi", "succes": True}])
def test_what_means_nothing_is_refused(value: Any) -> None:
    """It is the author's mistake, and told as one."""
    with pytest.raises((TypeError, msgspec.ValidationError)):
        list(made_of(value, "A"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ProviderResult()),
        ("rain", ProviderResult("rain")),
        ({"text": "rain", "values": {"sky": "grey"}}, ProviderResult("rain", {"sky": "grey"})),
    ],
)
def test_what_a_provider_returns_is_told(value: Any, expected: ProviderResult) -> None:
    """A text alone will do."""
    assert told_by(value) == expected


def test_what_a_provider_may_return_is_said() -> None:
    """A number is none of it."""
    with pytest.raises(TypeError, match="returns a text, a ProviderResult or None, not int"):
        told_by(21)


async def test_a_model_of_texts_returns_a_text() -> None:
    """Else somebody would be answered "None"; other types may return what they like."""
    plugin = Plugin("p", models={"TEXT_LARGE": lambda runtime: None, "IMAGE": lambda: None})
    async with run(Plain, plugin=plugin) as service:
        with pytest.raises(RemoteError, match="TEXT_LARGE is to return a text, not None"):
            await service.runtime.use_model("TEXT_LARGE", "hi")
        assert await service.runtime.use_model("IMAGE", {}) is None


async def test_what_an_author_s_function_raises_is_in_the_log_of_its_own_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the line that raised: who asked may go on without it, and say nothing of where."""
    plugin = Plugin("p", providers=[Provider("RAIN", get=_raining)])
    async with run(Plain, plugin=plugin) as service:
        await service.runtime.compose_state(as_memory("hi"))

        service.runtime.register_provider(Provider("RAIN", get=lambda: 21))
        await service.runtime.compose_state(as_memory("hi"))

    texts = [
        one.message
        for one in caplog.records
        if one.name == "garrison.workers.agents.internal_methods"
    ]
    text, mistaken = texts
    assert text.startswith("provider RAIN failed\nTraceback")
    assert "in _raining" in text
    assert text.endswith("ZeroDivisionError: no sky")
    assert mistaken.startswith("provider RAIN failed\nTypeError: a provider returns a text, a")


def _raining() -> str:
    raise ZeroDivisionError("no sky")


class Plain(Service):
    """Has nothing of its own."""

    service_type = "plain"


def test_a_function_is_given_as_much_as_it_takes() -> None:
    """The first arguments, in order; all of them where it takes any number."""
    assert call_with_prefix(lambda: "none", 1, 2) == "none"
    assert call_with_prefix(lambda a: a, 1, 2) == 1
    assert call_with_prefix(lambda *all_of_them: all_of_them, 1, 2) == (1, 2)
    assert call_with_prefix(lambda a, b=5: (a, b), 1, 2) == (1, 2)
    assert call_with_prefix(max, 1, 2) == 2  # its signature cannot be read


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
        ComponentRegistry().add(Action(description="nameless"))
    with pytest.raises(TypeError, match="expected an Action"):
        ComponentRegistry().add("SHOUT")  # type: ignore[arg-type]


def test_what_everybody_is_told_is_bounded_and_can_travel() -> None:
    """Examples of a megabyte, or of no known type, are the author's to mend."""
    parts = ComponentRegistry()
    parts.add(Action("A", handler=str, examples=["x" * MANIFEST_MOST]))
    with pytest.raises(ValueError, match="shorten examples"):
        parts.told_in(Manifest("a"))


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Action("A", handler=str, examples=[object()]), "action A cannot be told.* type object"),
        (Action("A", handler=str, examples=[2**70]), "action A cannot be told"),
        (
            Action("A", handler=str, examples=[{(1, 2): "no key of JSON's"}]),
            "action A cannot be told.*keys",
        ),
        (
            Action("A", handler=str, similes=[1]),  # type: ignore[list-item]
            r"action A cannot be told.*Expected `str`.*similes",
        ),
        (
            Action("A", handler=str, priority=1.5),  # type: ignore[arg-type]
            r"action A cannot be told.*Expected `int`.*priority",
        ),
        (Action("A", 5, handler=str), "action A cannot be told"),  # type: ignore[arg-type]
        (Provider("P", get=str, position="1"), "provider P cannot be told.*position"),  # type: ignore[arg-type]
        (Evaluator("E", handler=str, examples=[{None: 1}]), "evaluator E cannot be told.*keys"),
    ],
)
def test_what_cannot_be_told_is_named(part: Action | Provider | Evaluator, problem: str) -> None:
    """To its author, before a supervisor or anybody else is to read it, or to write it down."""
    parts = ComponentRegistry()
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
