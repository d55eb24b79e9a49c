"""The arguments that authors' functions receive, and the conversion of what they return."""

import asyncio
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
    ModelError,
    ModelUnavailable,
    Plugin,
    Provider,
    ProviderResult,
    Refusal,
    Service,
    as_memory,
)
from garrison.workers.agents.content import ActionOutput
from garrison.workers.agents.functions import call_with_prefix, convert_argument
from garrison.workers.agents.models import params_class
from garrison.workers.agents.registry import MANIFEST_LIMIT, ComponentRegistry
from garrison.workers.process.internal_methods import (
    METHODS,
    action_outputs,
    provider_result,
)
from garrison.workers.process.registration import static_manifest
from garrison.workers.testing import run

if TYPE_CHECKING:
    from garrison.workers.runtime import Runtime

FAILED = ActionResult(success=False, error="it returned False", action="A")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (True, []),
        (
            False,
            [
                ActionOutput(
                    result=ActionResult(success=False, error="it returned False", action="A")
                )
            ],
        ),
        ("hi", [ActionOutput(Content("hi"))]),
        ({"text": "hi"}, [ActionOutput(Content("hi"))]),
        (Memory(content=Content("hi")), [ActionOutput(Content("hi"))]),
        (ActionResult(text="done"), [ActionOutput(result=ActionResult(text="done", action="A"))]),
        ({"success": True}, [ActionOutput(result=ActionResult(action="A"))]),
        (["hi", None, ("ho",)], [ActionOutput(Content("hi")), ActionOutput(Content("ho"))]),
    ],
)
def test_an_actions_values_become_content_or_results(
    value: Any, expected: list[ActionOutput]
) -> None:
    """A text and a `Content` are sent; a result goes to the caller."""
    assert list(action_outputs(value, "A")) == expected


@pytest.mark.parametrize("value", [1, object(), {"text": 1}, [2], {"txt": "hi", "succes": True}])
def test_what_means_nothing_is_refused(value: Any) -> None:
    """It is the author's mistake, so the error goes there."""
    with pytest.raises((TypeError, msgspec.ValidationError)):
        list(action_outputs(value, "A"))


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
    assert provider_result(value) == expected


def test_what_a_provider_may_return_is_said() -> None:
    """A number is none of it."""
    with pytest.raises(TypeError, match="returns a text, a ProviderResult or None, not int"):
        provider_result(21)
    with pytest.raises(TypeError, match=r"has text, values or data, not x: write"):
        provider_result({"x": 1})


async def test_a_text_model_must_return_a_text() -> None:
    """Otherwise a user would read "None". Models of other types may return anything."""
    plugin = Plugin("p", models={"TEXT_LARGE": lambda runtime: None, "IMAGE": lambda: None})
    async with run(Plain, plugin=plugin) as service:
        with pytest.raises(ModelUnavailable, match="TEXT_LARGE must return a text, not None"):
            await service.runtime.use_model("TEXT_LARGE", "hi")
        assert await service.runtime.use_model("IMAGE", {}) is None


async def test_a_failure_of_a_model_is_an_event() -> None:
    """For whoever wants to be told; without a listener nothing is emitted."""
    heard: asyncio.Queue[Any] = asyncio.Queue()

    def fail(runtime: Any) -> str:
        raise ModelError("busy", 3, "429")

    async with run(Plain, plugin=Plugin("p", models={"TEXT_LARGE": fail})) as service:
        with pytest.raises(ModelUnavailable):
            await service.runtime.use_model("TEXT_LARGE", "hi")
        service.runtime.register_event("model.failed", lambda data: heard.put_nowait(data))
        with pytest.raises(ModelUnavailable):
            await service.runtime.use_model("TEXT_LARGE", "hi", fallback=False)
        assert await asyncio.wait_for(heard.get(), 10) == {
            "model": "TEXT_LARGE",
            "provider": "plain",
            "kind": "busy",
            "error": "busy, retry after 3 s: 429",
            "passed_over_s": 3.0,
        }
        assert heard.empty()


async def test_params_that_do_not_fit_are_the_callers_mistake() -> None:
    """And no failure of the model."""
    async with run(Plain, plugin=Plugin("p", models={"TEXT_LARGE": lambda r, p: "yes"})) as service:
        with pytest.raises(ModelUnavailable, match="invalid: Expected `str`") as caught:
            await service.runtime.use_model("TEXT_LARGE", {"prompt": 5})
        (error,) = caught.value.errors.values()
        assert isinstance(error, ModelError)
        assert await service.runtime.use_model("TEXT_LARGE", {"prompt": "5"}) == "yes"


async def test_an_error_of_an_authors_function_is_logged_by_its_own_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With the line that raised: the caller may continue without the result."""
    plugin = Plugin("p", providers=[Provider("RAIN", get=_raining)])
    async with run(Plain, plugin=plugin) as service:
        await service.runtime.compose_state(as_memory("hi"))

        service.runtime.register_provider(Provider("RAIN", get=lambda: 21))
        await service.runtime.compose_state(as_memory("hi"))

    texts = [
        one.message
        for one in caplog.records
        if one.name == "garrison.workers.process.internal_methods"
    ]
    text, mistaken = texts
    assert text.startswith("provider RAIN failed\nTraceback")
    assert "in _raining" in text
    assert text.endswith("ZeroDivisionError: no sky")
    assert mistaken.startswith("provider RAIN failed\nTypeError: a provider returns a text, a")


def _raining() -> str:
    raise ZeroDivisionError("no sky")


class Plain(Service):
    """Has no methods."""

    service_type = "plain"


def test_a_function_receives_as_many_arguments_as_it_takes() -> None:
    """The first ones, in order; all of them where it takes any number."""
    assert call_with_prefix(lambda: "none", 1, 2) == "none"
    assert call_with_prefix(lambda a: a, 1, 2) == 1
    assert call_with_prefix(lambda *all_of_them: all_of_them, 1, 2) == (1, 2)
    assert call_with_prefix(lambda a, b=5: (a, b), 1, 2) == (1, 2)
    assert call_with_prefix(max, 1, 2) == 2  # it has no signature


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
def test_params_are_converted_to_the_handlers_annotation(
    function: Callable[..., Any], model_type: str, value: Any, expected: Any
) -> None:
    """An annotation may be a string. Without one, the model's type decides."""
    default = params_class(model_type)
    assert convert_argument(function, value, 1, default) == expected


def test_a_memory_is_made_of_many_forms() -> None:
    """It always has an id and a time; given ones are kept."""
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
    with pytest.raises(ValueError, match="needs a name"):
        ComponentRegistry().add(Action(description="nameless"))
    with pytest.raises(TypeError, match="expected an Action"):
        ComponentRegistry().add("SHOUT")  # type: ignore[arg-type]


def test_a_manifest_has_a_size_limit() -> None:
    """The error names what to shorten."""
    parts = ComponentRegistry()
    parts.add(Action("A", handler=str, examples=["x" * MANIFEST_LIMIT]))
    with pytest.raises(ValueError, match="shorten the examples"):
        parts.add_to_manifest(Manifest("a"))


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        (Action("A", handler=str, examples=[object()]), "action A cannot be sent.* type object"),
        (Action("A", handler=str, examples=[2**70]), "action A cannot be sent"),
        (
            Action("A", handler=str, examples=[{(1, 2): "no key of JSON's"}]),
            "action A cannot be sent.*keys",
        ),
        (
            Action("A", handler=str, similes=[1]),  # type: ignore[list-item]
            r"action A cannot be sent.*Expected `str`.*similes",
        ),
        (
            Action("A", handler=str, priority=1.5),  # type: ignore[arg-type]
            r"action A cannot be sent.*Expected `int`.*priority",
        ),
        (Action("A", 5, handler=str), "action A cannot be sent"),  # type: ignore[arg-type]
        (Provider("P", get=str, position="1"), "provider P cannot be sent.*position"),  # type: ignore[arg-type]
        (Evaluator("E", handler=str, examples=[{None: 1}]), "evaluator E cannot be sent.*keys"),
    ],
)
def test_a_component_that_cannot_be_encoded_is_named(
    part: Action | Provider | Evaluator, problem: str
) -> None:
    """Its author gets the error, before another process would have to decode the manifest."""
    parts = ComponentRegistry()
    parts.add(part)
    with pytest.raises(ValueError, match=problem):
        parts.add_to_manifest(Manifest("a"))


def test_a_text_is_one_simile() -> None:
    """It is not a list of its characters."""

    class Loud(Action):
        name = "SHOUT"
        similes = "YELL"

    assert list(Loud().similes) == ["YELL"]
    assert Evaluator("E", similes="NOTE").similes == ["NOTE"]


def test_a_plugin_of_components_alone_gets_a_worker() -> None:
    """Under its NAME. A plugin with nothing at all needs none."""
    (cls,) = Plugin("p", providers=[Provider("X")]).worker_services("named")
    assert cls.service_type == "named"
    (cls,) = Plugin("p", init=lambda config, runtime: None).worker_services("named")
    assert cls.service_type == "named"
    assert Plugin("p").worker_services("named") == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("not here", Refusal("not here")),
        (Refusal(), Refusal()),
        (Refusal("no", "spam"), Refusal("no", "spam")),
    ],
)
async def test_a_gate_refuses_with_a_text_or_in_silence(
    value: Any, expected: Refusal | None
) -> None:
    """Like other functions it takes as many arguments as it wants, and its result travels."""

    async def gate(runtime: Any, memory: Memory) -> Any:
        assert memory.content.text == "hi"
        return value

    async with run(Plain, plugin=Plugin("guard", gate=gate)) as service:
        (remote,) = service.runtime.gates
        assert await remote.check(as_memory("hi"), timeout=5) == expected
        assert await remote.check(as_memory("hi"), timeout=5, optional=True) == expected


@pytest.mark.parametrize("value", ["", "  ", True, False, 1, {"text": "no"}])
async def test_a_gates_other_results_are_errors(value: Any) -> None:
    """Whether they let a message pass would be a guess."""
    async with run(Plain, plugin=Plugin("guard", gate=lambda: value)) as service:
        (remote,) = service.runtime.gates
        with pytest.raises(RemoteError, match="returns None to let a message pass"):
            await remote.check(as_memory("hi"), timeout=5)


def test_a_plugin_with_a_gate_alone_gets_a_worker() -> None:
    """Its manifest says so; a gate that requires more arguments is found when it is read."""
    plugin = Plugin("guard", gate=lambda runtime, memory: None)
    (cls,) = plugin.worker_services("guard")
    assert static_manifest(Manifest("guard"), plugin, cls, "guard").gate
    assert not static_manifest(Manifest("guard"), Plugin("p"), cls, "guard").gate
    wrong = Plugin("guard", gate=lambda runtime, memory, state: None)
    with pytest.raises(TypeError, match=r"the gate requires \(runtime, memory, state\)"):
        static_manifest(Manifest("guard"), wrong, cls, "guard")


def test_names_on_the_wire_are_those_of_earlier_releases() -> None:
    """Workers of different releases call each other during an upgrade."""
    assert set(METHODS) == {
        "$event",
        "$applies",
        "$act",
        "$provide",
        "$judges",
        "$evaluate",
        "$gate",
        "$model",
        "$model_stream",
        "$run_task",
        "$send",
    }
