"""Config values become an author's `Config`, and what does not fit is named by its key."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from garrison.workers.config_class import ConfigMismatch, convert_config

KEYS = ("services", "discord", "config")


class Retry(msgspec.Struct):
    """A table within a table."""

    times: int = 3
    pause: float = 1.0


class Config(msgspec.Struct):
    """One of each."""

    channel: str
    limit: int = 10
    ratio: float = 0.5
    targets: dict[str, int] = {}
    ports: dict[int, str] = {}
    names: list[str] = []
    retry: Retry = msgspec.field(default_factory=Retry)
    other: Retry | None = None
    most: int | None = None
    steps: list[Retry] = []
    by_name: dict[str, Retry] = {}

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError("limit must not be below 0")


def misfit(values: dict[str, Any], cls: Any = Config) -> tuple[str, str]:
    """Return the key and the problem of values that do not fit."""
    with pytest.raises(ConfigMismatch) as caught:
        convert_config(cls, values, KEYS)
    problem = caught.value.problem
    assert problem.keys[: len(KEYS)] == KEYS
    assert str(caught.value) == f"{'.'.join(problem.keys)}: {problem.problem}"
    return ".".join(problem.keys[len(KEYS) :]), problem.problem


def test_values_are_converted_to_the_class() -> None:
    """Tables within are classes too, and what is not given has its default."""
    config = convert_config(Config, {"channel": "x", "ratio": 1, "retry": {"times": 5}}, KEYS)

    assert config == Config("x", ratio=1.0, retry=Retry(5))


def test_without_a_class_values_stay_as_they_are() -> None:
    """A service that names no Config has the table itself."""
    values = {"anything": [1, {"x": 2}]}

    assert convert_config(None, values, KEYS) is values


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({}, "channel", "is missing, and has no default"),
        ({"channel": 3}, "channel", "expected str, got int"),
        ({"channel": "x", "limit": "10"}, "limit", "expected int, got str"),
        ({"channel": "x", "limit": True}, "limit", "expected int, got bool"),
        ({"channel": "x", "limit": 1.5}, "limit", "expected int, got float"),
        ({"channel": "x", "retry": 3}, "retry", "expected a table with times, pause, got int"),
        ({"channel": "x", "other": 3}, "other", "expected a table with times, pause, got int"),
        ({"channel": "x", "most": "5"}, "most", "expected int, got str"),
        ({"channel": "x", "retry": {"times": "x"}}, "retry.times", "expected int, got str"),
        ({"channel": "x", "other": {"times": "x"}}, "other.times", "expected int, got str"),
        ({"channel": "x", "targets": {"a": "b"}}, "targets", "expected int, got str"),
        ({"channel": "x", "names": ["a", 1]}, "names", "expected str, got int"),
        ({"channel": "x", "steps": [{"pause": "x"}]}, "steps.pause", "expected float, got str"),
        ({"channel": "x", "limit": -1}, "", "limit must not be below 0"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_key(
    values: dict[str, Any], key: str, problem: str
) -> None:
    """Its key from the top of the file, and what was expected there."""
    assert misfit(values) == (key, problem)


def test_a_key_of_another_type_is_named_by_its_table() -> None:
    """A mapping's keys are values too."""
    key, problem = misfit({"channel": "x", "ports": {"http": "x"}})

    assert key == "ports"
    assert "$" not in problem


@pytest.mark.parametrize(
    ("values", "key", "problem"),
    [
        ({"chanel": "x"}, "chanel", "no such key; did you mean 'channel'?"),
        ({"channel": "x", "retry": {"time": 1}}, "retry.time", "did you mean 'times'?"),
        ({"channel": "x", "zzz": 1}, "zzz", "known are channel, limit"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(
    values: dict[str, Any], key: str, problem: str
) -> None:
    """A typo would otherwise be a setting that has no effect."""
    where, text = misfit(values)

    assert where == key
    assert problem in text


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"channel": "x", "other": {"time": 1}}, "other.time"),
        ({"channel": "x", "steps": [{"times": 1}, {"time": 1}]}, "steps.time"),
        ({"channel": "x", "by_name": {"a": {"time": 1}}}, "by_name.a.time"),
    ],
)
def test_an_unknown_key_is_refused_however_deep(values: dict[str, Any], key: str) -> None:
    """In an optional table, a list of tables and a table of tables as well."""
    where, text = misfit(values)

    assert where == key
    assert "did you mean 'times'?" in text


def test_a_class_without_keys_takes_none() -> None:
    """The problem is still a sentence."""

    class Empty(msgspec.Struct):
        pass

    assert convert_config(Empty, {}, KEYS) == Empty()
    assert misfit({"x": 1}, Empty)[0] == "x"


def test_a_renamed_field_is_known_by_the_name_in_the_file() -> None:
    """As msgspec writes it."""

    class Renamed(msgspec.Struct, rename="kebab"):
        poll_every: int = 1

    assert convert_config(Renamed, {"poll-every": 5}, KEYS) == Renamed(5)
    assert misfit({"poll_every": 5}, Renamed) == (
        "poll_every",
        "no such key; did you mean 'poll-every'?",
    )


def test_an_error_has_the_authors_bounds() -> None:
    """A constraint's text is msgspec's, without its backticks."""

    class Bounded(msgspec.Struct):
        n: Annotated[int, msgspec.Meta(ge=1)] = 1

    key, problem = misfit({"n": 0}, Bounded)
    assert (key, problem) == ("n", "expected int >= 1")


def test_an_error_lists_the_choices() -> None:
    """Also within a list, and of an optional choice."""

    class Choosing(msgspec.Struct):
        decide: Literal["validate", "model"] = "validate"
        of: list[Literal["a", 1]] = []
        maybe: Literal["x"] | None = None

    assert convert_config(Choosing, {"decide": "model", "of": ["a", 1]}, KEYS).decide == "model"
    assert misfit({"decide": "modl"}, Choosing) == (
        "decide",
        "'modl' is not one of 'model', 'validate'",
    )
    assert misfit({"of": ["b"]}, Choosing)[1] == "'b' is not one of 'a', 1"
    assert misfit({"maybe": "y"}, Choosing) == ("maybe", "'y' is not one of 'x'")
    assert convert_config(Choosing, {"maybe": None}, KEYS).maybe is None


def test_a_path_is_not_a_config_value() -> None:
    """A class that msgspec cannot build raises ConfigMismatch, or is built."""

    class Odd(msgspec.Struct):
        folder: Path

    key, _ = misfit({"folder": "/x"}, Odd)
    assert key == "folder"
