"""What is left out of a request that was too long for a model."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.workers import EmbedParams, GenerateTextParams
from garrison.workers.agents.shorten import CUT, SHORTEST, cut_middle, shortened

LONG = "".join(f"{number:03} " for number in range(100))
HALF = f"{LONG[:100]}{CUT}{LONG[-100:]}"


def conversation(words: str) -> list[Any]:
    """Return messages: s is of the system, u of the user, a of the assistant, t of a
    tool; then a number."""
    roles = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": roles[word[0]], "content": word} for word in words.split()]


@pytest.mark.parametrize(
    ("before", "prompt", "after"),
    [
        ("u1 a1 u2 a2 u3 a3 u4 a4", "now", "u3 a3 u4 a4"),
        ("u1 a1 u2 a2 u3", "", "u2 a2 u3"),
        ("u1 a1 u2", "", "u2"),  # not a1: a conversation begins with the user
        ("u1 a1", "now", ""),
        ("u1", "now", ""),
        ("s1 u1 a1 s2 u2 a2 u3", "", "s1 s2 u2 a2 u3"),
        ("s1 u1 u2 u3 u4", "", "s1 u3 u4"),
        ("a1 u1", "", "u1"),
        ("u1 a1 u2 a2 t2", "", "u2 a2 t2"),  # a result stands behind its call
        ("u1 a1 t1 u2", "", "u2"),
    ],
)
def test_the_oldest_half_of_the_messages_is_left_out(before: str, prompt: str, after: str) -> None:
    """System messages stay, and so does what is to be answered."""
    params = GenerateTextParams(prompt, messages=conversation(before), system="Be kind")

    shorter = shortened(params)

    assert shorter == GenerateTextParams(prompt, messages=conversation(after), system="Be kind")
    assert len(params.messages) == len(before.split())
    mapping = {"messages": conversation(before), "prompt": prompt, "seed": 1}
    assert shortened(mapping) == {**mapping, "messages": conversation(after)}


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (GenerateTextParams(LONG), GenerateTextParams(HALF)),
        (EmbedParams(LONG, "m"), EmbedParams(HALF, "m")),
        ({"prompt": LONG}, {"prompt": HALF}),
        (
            {"messages": [{"role": "user", "content": LONG}]},
            {"messages": [{"role": "user", "content": HALF}]},
        ),
    ],
)
def test_of_a_single_text_the_middle_is_left_out(params: Any, expected: Any) -> None:
    """Its beginning says what is asked, its end asks it."""
    assert shortened(params) == expected


@pytest.mark.parametrize(
    "params",
    [
        GenerateTextParams("short"),
        GenerateTextParams(system=LONG),
        EmbedParams(),
        {"messages": [{"role": "user", "content": [{"type": "image"}]}]},
        {"messages": ["odd"]},
        {"prompt": 5},
        {},
        LONG,
        None,
        7,
    ],
)
def test_there_may_be_nothing_to_leave_out(params: Any) -> None:
    """Then the request is as long as before, and is not made again."""
    assert shortened(params) is None


@given(st.text())
def test_a_cut_text_is_shorter(text: str) -> None:
    """Half of it, and the mark."""
    cut = cut_middle(text)
    assert (cut is None) is (len(text) < SHORTEST)
    if cut is not None:
        assert len(cut) <= len(text) // 2 + len(CUT)
        assert len(cut) < len(text)


@given(st.lists(st.sampled_from(["s", "u", "a"])), st.booleans())
def test_any_conversation_keeps_its_system_messages_and_its_end(
    roles: list[str], has_prompt: bool
) -> None:
    """In their order; what is shortened is shorter."""
    before = conversation(" ".join(f"{role}{n}" for n, role in enumerate(roles)))
    shorter = shortened({"messages": before, "prompt": "now" if has_prompt else ""})
    if shorter is None:
        return
    after = shorter["messages"]
    assert len(after) < len(before)
    assert [one for one in before if one in after] == after
    assert [one for one in after if one["role"] == "system"] == [
        one for one in before if one["role"] == "system"
    ]
    said = [one for one in before if one["role"] != "system"]
    if not has_prompt:
        assert said[-1] in after
