"""Whatever a character file holds, it is a character that travels, or one typed error."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from garrison.ipc.character import (
    READERS,
    Character,
    CharacterError,
    parse,
    parse_all,
    secrets_of,
    setting_of,
    without_foreign_secrets,
)

CANARY = "cAn4ry"
scalars: st.SearchStrategy[Any] = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.just(CANARY)),
    st.floats(allow_nan=False, allow_infinity=False),
)
names = st.sampled_from(["secrets", "user", "name", "content", "examples", "all", "K"])
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from([*READERS, "messageExamples", "postExamples", "lore"])


@given(st.binary(max_size=60))
@example(b'{"name": "\\ud83d\\ude00"}')
def test_bytes_are_a_character_or_an_error(data: bytes) -> None:
    """Nothing else is raised."""
    try:
        found = parse_all(data)
    except CharacterError:
        return
    assert all(isinstance(one, Character) for one in found)


@given(st.dictionaries(keys, values, max_size=5))
def test_any_json_is_a_character_or_an_error(document: dict[str, Any]) -> None:
    """Of the first the whole travels; the second shows no value."""
    data = json.dumps({"name": "A"} | document).encode()
    found: Character | None = None
    text = ""
    try:
        found = parse(data)
    except CharacterError as error:
        text = str(error)
    assert CANARY not in text
    packed = msgspec.msgpack.encode(found)
    assert msgspec.msgpack.decode(packed, type=Character | None) == found


tables = st.dictionaries(st.sampled_from("ABCD"), scalars, max_size=4)
some = st.sets(st.sampled_from("ABCD"))


@given(tables, tables, some, some)
def test_no_secret_is_told_that_was_not_given(
    secrets: dict[str, Any], nested: dict[str, Any], own: set[str], more: set[str]
) -> None:
    """Of the others nothing is left; and what was given is found, and first."""
    settings = {"secrets": nested}
    whole = Character(name="A", secrets=secrets, settings=settings)
    known = secrets_of(whole)
    given = own | more

    copy = without_foreign_secrets(whole, own, given)
    left = secrets_of(copy)
    assert left == {name: text for name, text in known.items() if name in own}
    for name in "ABCD":
        if name in known:
            assert setting_of(copy, name) == (setting_of(whole, name) if name in own else None)
        elif name in given:
            assert setting_of(copy, name) is None


def test_a_secret_of_any_kind_is_none_of_others() -> None:
    """Also one that is no text."""
    whole = Character(name="A", secrets={"A": {"deep": CANARY}, "B": [CANARY]})

    assert CANARY not in repr(without_foreign_secrets(whole, (), ()))
    with pytest.raises(KeyError):
        without_foreign_secrets(whole, ("A",), ("A",)).secrets["B"]
