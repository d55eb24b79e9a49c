"""Every string that a worker sends is marked, and redaction follows the marks."""

from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec
import pytest
from tests.support import wire_samples

from garrison.ipc import messages
from garrison.ipc.marks import Identifier, Mark, Text, carries_text, redact_marked
from garrison.ipc.messages import Failing, Manifest, MethodInfo, PluginRead, Ready, Stopped

SENT_BY_WORKERS = [*get_args(messages.Upward), *get_args(messages.Data)]


def unmarked(annotation: Any, path: str, seen: frozenset[type] = frozenset()) -> Iterator[str]:
    """Yield where a type has a string that is marked neither as text nor as identifier."""
    if annotation is str:
        yield path
    elif get_origin(annotation) is Annotated:
        if not any(isinstance(one, Mark) for one in get_args(annotation)[1:]):
            yield from unmarked(get_args(annotation)[0], path, seen)
    elif isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        if annotation not in seen:
            for name, hint in get_type_hints(annotation, include_extras=True).items():
                yield from unmarked(hint, f"{path}.{name}", seen | {annotation})
    else:
        for inner in get_args(annotation):
            yield from unmarked(inner, path, seen)


@pytest.mark.parametrize("cls", SENT_BY_WORKERS, ids=lambda cls: cls.__name__)
def test_every_string_that_a_worker_sends_is_marked(cls: type[msgspec.Struct]) -> None:
    """A field that is added is text or an identifier: its author decides, not an omission."""
    assert not list(unmarked(cls, cls.__name__))


class _Unmarked(msgspec.Struct):
    plain: list[MethodInfo]
    problems: dict[Identifier, str]


def test_an_unmarked_string_is_found() -> None:
    """The rule above sees strings inside of other types."""
    assert list(unmarked(_Unmarked, "X")) == ["X.problems"]


@pytest.mark.parametrize("message", [*wire_samples.UPWARD, *wire_samples.DATA])
def test_only_text_is_rewritten(message: msgspec.Struct) -> None:
    """Identifiers, numbers and results stay; a message without text is not copied."""
    same = redact_marked(message, lambda text: text)
    assert same == message
    assert (same is message) is not carries_text(type(message))


def test_text_is_rewritten_at_any_depth() -> None:
    """In nested messages, tuples and the values of maps."""
    methods = (MethodInfo("say", False, "(x)", "Say."),)
    manifest = Manifest("type", "about", methods, {"sync": "why"}, notes=("note",))

    read = redact_marked(PluginRead((manifest,), ("module",)), str.upper)

    shown = Manifest(
        "type",
        "ABOUT",
        (MethodInfo("say", False, "(X)", "SAY."),),
        {"sync": "WHY"},
        notes=("NOTE",),
    )
    assert read == PluginRead((shown,), ("module",))
    assert redact_marked(Ready(manifest), str.upper) == Ready(shown)
    assert redact_marked(Failing("run", "r", "t"), str.upper) == Failing("run", "R", "T")
    assert redact_marked(Stopped("r"), str.upper) == Stopped("R")


class _Optional(msgspec.Struct):
    note: Text | None = None
    notes: list[Text] = []


class _Ambiguous(msgspec.Struct):
    note: Text | int = 0


def test_optional_text_is_rewritten() -> None:
    """None stays None; what cannot be found for certain is an error when it is first sent."""
    assert redact_marked(_Optional("a", ["b"]), str.upper) == _Optional("A", ["B"])
    assert redact_marked(_Optional(), str.upper) == _Optional()
    with pytest.raises(TypeError, match="only"):
        redact_marked(_Ambiguous(), str.upper)
