"""`garrison call`: how the words of a command line become arguments."""

from typing import Any

import pytest
from click import UsageError

from garrison.supervisor.cli.arguments import parse_arguments

COMMAND = "garrison call hello greet"


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        ([], [], {}),
        (["Ada"], ["Ada"], {}),
        (["Ada Lovelace", "Ada"], ["Ada Lovelace", "Ada"], {}),
        (["3", "true", "null", "2.5"], [3, True, None, 2.5], {}),
        (["True", "007", "1.2.3", "-x"], ["True", "007", "1.2.3", "-x"], {}),
        (['"3"'], ["3"], {}),
        ([""], [""], {}),
        # alone, an array or object holds all arguments
        (["[1, 2]"], [1, 2], {}),
        (['{"name": "Ada"}'], [], {"name": "Ada"}),
        (["[[1, 2]]"], [[1, 2]], {}),
        # beside others it is one of them
        (["[1, 2]", "3"], [[1, 2], 3], {}),
        (["name=Ada"], [], {"name": "Ada"}),
        (["name=3", "tags=[1]", "text="], [], {"name": 3, "tags": [1], "text": ""}),
        (['name="3"'], [], {"name": "3"}),
        (["1", "second=a=b"], [1], {"second": "a=b"}),
        # what precedes the = is no name
        (["https://a.b/?c=d", "1=2", "a b=c"], ["https://a.b/?c=d", "1=2", "a b=c"], {}),
    ],
)
def test_each_word_is_an_argument(
    words: list[str], args: list[Any], kwargs: dict[str, Any]
) -> None:
    """A value is JSON or else text; `name=VALUE` is a named argument."""
    assert parse_arguments(words, COMMAND) == (args, kwargs)


@pytest.mark.parametrize("word", ["{", "[Ada]", '{"a":', '"Ada', "name=[Ada]", "{name: Ada}"])
def test_broken_json_is_refused_with_the_line_that_works(word: str) -> None:
    """The shell has probably removed the quotes. The word is not passed as text by accident."""
    with pytest.raises(UsageError) as caught:
        parse_arguments([word], COMMAND)

    assert "is not JSON" in caught.value.message
    assert f"""{COMMAND} '{{"name": "Ada"}}'""" in caught.value.message


def test_the_error_has_the_line_that_passes_the_word_as_text() -> None:
    """Quoted for the shell."""
    with pytest.raises(UsageError, match=r"""garrison call hello greet '\["\{it"\]'$"""):
        parse_arguments(["{it"], COMMAND)


def test_a_name_that_stands_twice_is_refused() -> None:
    """One of the two would be lost."""
    with pytest.raises(UsageError, match="name is given twice"):
        parse_arguments(["name=Ada", "name=Max"], COMMAND)
