"""Weizenbaum's method and the bundled script."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.eliza_script import FOLDER, as_json

from garrison.workers.services.eliza import bundled
from garrison.workers.services.eliza.conversation import (
    MAX_ANSWER,
    MAX_LINE,
    MAX_MEMORIES,
    MAX_PART,
    Conversation,
    decompose,
    reflect,
    respond,
    tokenise,
)
from garrison.workers.services.eliza.script import Script, ScriptError, Sentence, parse

BUNDLED_TEXT = (FOLDER / "eliza.toml").read_text("utf-8")
BUNDLED = parse(BUNDLED_TEXT)

SMALL = """
greeting = "Hello."
none = ["Go on.", "And?"]
silence = ["Speak."]
goodbye = ["Bye."]
farewells = ["bye", "see you"]
recall_every = 2

[substitute]
"i'm" = "i am"
dont = "don't"

[reflect]
i = "you"
me = "you"
my = "your"
you = "I"
your = "my"
"i am" = "you are"
"you are" = "I am"
"you ." = "me"

[groups]
family = ["mother", "father"]

[keywords.i]
rank = 2
"* i am *" = ["Why are you (2)?", "Since when are you (2)?", "Who says that you are (2)?"]
"* i saw *" = ["newkey"]
"* i met *" = ["=family", "Whom did you meet?"]
"* i turn" = ["=circle"]

[keywords.dream]
rank = 5
also = ["dreamt"]
"*" = ["What was the dream?"]

[keywords.my]
rank = 1
"* my @family *" = ["Tell me of your (2)."]
"* my *" = ["What of your (2)?"]

[keywords.family]
rank = 1
also = ["@family"]
"* @family *" = ["Which (2)?"]

[keywords.circle]
"*" = ["=round"]

[keywords.round]
"*" = ["=circle"]

[memory.my]
"* my *" = ["Earlier you spoke of your (2).", "Back to your (2)."]
"""


def small(**changes: str) -> str:
    """Return the small script with the text at each key replaced by its value."""
    text = SMALL
    for old, new in changes.items():
        text = text.replace(old, new)
    return text


def say(*lines: str, script: Script | None = None) -> list[str]:
    """Return the answers to the lines of one conversation."""
    script = script or parse(SMALL)
    conversation, answers = Conversation(), []
    for line in lines:
        answer, conversation = respond(script, line, conversation)
        answers.append(answer)
    return answers


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# --- keywords -----------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["I am in a dream", "a dream in which I am", "Dreamt? I am sure"])
def test_the_keyword_of_the_highest_rank_answers_wherever_it_is(line: str) -> None:
    assert say(line) == ["What was the dream?"]


def test_of_equal_ranks_the_first_keyword_answers() -> None:
    assert say("my house and mother") == ["What of your house and mother?"]
    assert say("mother and my house") == ["Which mother?"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("Well, I am sad. It rains.", "Why are you sad?"),
        ("I am sad; my house is cold", "Why are you sad?"),
        ("My house is cold! I am sad", "Why are you sad?"),
        ("I am sad.\nI am glad.", "Why are you sad?"),
    ],
)
def test_the_clause_with_the_best_keyword_is_answered_alone(line: str, answer: str) -> None:
    assert say(line) == [answer]


@pytest.mark.parametrize("line", ["I'M SAD", "i’m sad", "Iʼm sad...", '"I\'m" *sad*', "¿I'm sad?"])
def test_case_marks_and_kinds_of_apostrophe_do_not_matter(line: str) -> None:
    assert say(line) == ["Why are you sad?"]


def test_a_name_keeps_its_capitals() -> None:
    assert say("I am Anna McRae") == ["Why are you Anna McRae?"]


def test_the_capital_that_begins_a_clause_is_dropped() -> None:
    clauses = tokenise(parse(SMALL), "Dogs bark. NATO, too. A B")
    assert clauses == [("dogs", "bark"), ("NATO",), ("too",), ("A", "B")]


# --- decomposition ------------------------------------------------------------------------------


def pattern_of(text: str) -> Any:
    script = parse(small(**{'"* i saw *" = ["newkey"]': f'"{text}" = ["newkey"]'}))
    return script.keywords["i"].rules[1].pattern


@pytest.mark.parametrize(
    ("pattern", "line", "parts"),
    [
        ("* i need *", "so i need a rest", ["so", "a rest"]),
        ("* i need *", "i need", ["", ""]),
        ("* i need *", "i i need it", ["i", "it"]),
        ("* a * b", "a b a b b", ["", "b a b"]),
        ("* a b", "a a a b", ["a a"]),
        ("* my @family *", "my dog my Mother sings", ["my dog", "Mother", "sings"]),
        ("* * a", "b a", ["", "b"]),
        ("a b", "a b", []),
        ("a b", "a b c", None),
        ("* i need *", "i do not need", None),
        ("a *", "b a", None),
    ],
)
def test_a_pattern_decomposes_a_clause(pattern: str, line: str, parts: list[str] | None) -> None:
    found = decompose(pattern_of(pattern), words(line))
    assert (found and [" ".join(part) for part in found]) == (parts if parts else found)
    assert (found is None) == (parts is None)


@given(
    st.lists(st.sampled_from(["*", "a", "b", "@family"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "mother"]), max_size=7),
)
def test_decomposition_agrees_with_trying_every_way(elements: list[str], line: list[str]) -> None:
    def matches(pattern: list[str], words: list[str]) -> bool:
        match pattern:
            case []:
                return not words
            case ["*", *rest]:
                return any(matches(rest, words[at:]) for at in range(len(words) + 1))
            case [element, *rest]:
                word = "mother" if element == "@family" else element
                return words[:1] == [word] and matches(rest, words[1:])
        raise AssertionError(pattern)

    found = decompose(pattern_of(" ".join(elements)), tuple(line))
    assert (found is not None) == matches(elements, line)
    if found is not None:
        parts = iter(found)
        pieces = [next(parts) if e in {"*", "@family"} else (e,) for e in elements]
        assert [word for piece in pieces for word in piece] == line


def test_a_sentence_with_an_empty_part_is_skipped() -> None:
    assert say("I am") == ["Go on."]


# --- reflection ---------------------------------------------------------------------------------


def test_pronouns_are_reflected() -> None:
    assert say("I am sad about my mother") == ["Why are you sad about your mother?"]


@pytest.mark.parametrize(
    ("text", "reflected"),
    [
        ("you hate me", "I hate you"),
        ("i am sure you are", "you are sure I am"),
        ("i told you", "you told me"),
        ("you and I", "I and you"),
        ("MY cat", "your cat"),
        ("nothing Else", "nothing Else"),
    ],
)
def test_phrases_are_reflected_before_words(text: str, reflected: str) -> None:
    assert reflect(parse(SMALL), words(text)) == words(reflected)


# --- turns, links, memory -----------------------------------------------------------------------


def test_reassemblies_take_turns_each_rule_for_itself() -> None:
    assert say("I am sad", "I am sad", "my hat", "I am sad", "I am sad") == [
        "Why are you sad?",
        "Since when are you sad?",
        "What of your hat?",
        "Who says that you are sad?",
        "Why are you sad?",
    ]


def test_a_link_continues_with_another_keyword_and_takes_its_turn() -> None:
    assert say("I met father", "I met father") == ["Which father?", "Whom did you meet?"]


def test_newkey_continues_with_the_next_keyword() -> None:
    assert say("I saw my father") == ["Tell me of your father."]


def test_links_in_a_circle_give_no_answer() -> None:
    assert say("I turn") == ["Go on."]


def test_memories_are_recalled_without_a_keyword_oldest_first() -> None:
    assert say("my hat fits", "my cat sleeps", "Hm", "Hm", "Hm", "Hm", "Hm") == [
        "What of your hat fits?",
        "What of your cat sleeps?",
        "Earlier you spoke of your hat fits.",
        "Go on.",
        "Back to your cat sleeps.",
        "And?",
        "Go on.",
    ]


def test_a_memory_is_made_by_any_keyword_and_kept_once() -> None:
    once = small(**{', "Back to your (2)."': ""})
    assert say("I am in my house", "I am in my house", "Hm", "Hm", "Hm", script=parse(once))[
        2:
    ] == [
        "Earlier you spoke of your house.",
        "Go on.",
        "And?",
    ]


def test_the_oldest_memory_is_dropped() -> None:
    script, conversation = parse(SMALL), Conversation()
    for number in range(MAX_MEMORIES + 3):
        _, conversation = respond(script, f"my hat {number}", conversation)
    assert len(conversation.memory) == MAX_MEMORIES
    assert conversation.memory[0] == "Back to your hat 3."


# --- silence, farewells, limits ----------------------------------------------------------------


@pytest.mark.parametrize("line", ["", "   ", "...", "?!", "\n", "\x1b", "''"])
def test_silence_is_answered_as_silence(line: str) -> None:
    assert say(line) == ["Speak."]


@pytest.mark.parametrize("line", ["bye", "Bye!", "I am tired. See you", "BYE."])
def test_a_farewell_is_answered_as_one(line: str) -> None:
    assert say(line) == ["Bye."]


def test_a_farewell_word_among_others_is_no_farewell() -> None:
    assert say("I am one to say bye") == ["Why are you one to say bye?"]


def test_the_rest_of_a_long_line_is_ignored() -> None:
    assert say("x " * (MAX_LINE // 2) + "I am sad") == ["Go on."]


def test_no_escape_sequence_is_repeated() -> None:
    assert say("I am \x1b#8red\x07\u202e") == ["Why are you #8red?"]


@pytest.mark.parametrize(
    "line",
    ["i am " * 400, "a" * 5_000, "my " * 5_000, "." * 5_000 + "x", "'" * 2_000, "i don't i " * 300],
)
def test_a_long_line_is_answered_briefly(line: str) -> None:
    (answer,) = say(line, script=BUNDLED)
    assert 0 < len(answer) <= MAX_ANSWER


def test_repeated_words_are_shortened() -> None:
    (answer,) = say("I am " + "so " * 200)
    assert answer == f"Why are you {'so ' * (MAX_PART // 3)}…?".replace(" …", "…")


def test_a_sentence_of_the_script_is_cut_to_an_answers_length() -> None:
    long = parse(small(**{'"Go on."': f'"{"x" * 2 * MAX_ANSWER}"'}))
    assert say("Hm", script=long) == ["X" + "x" * (MAX_ANSWER - 1)]


def test_a_conversation_that_is_too_large_is_cut() -> None:
    memory = tuple(f"{number} " + "x" * 5_000 for number in range(100))
    answer, after = respond(BUNDLED, "Good", Conversation(memory=memory, rest=10**30))
    assert answer not in memory
    assert len(after.memory) == MAX_MEMORIES
    assert after.memory[-1].startswith("99 ")
    assert_bounded(after)


# --- properties ---------------------------------------------------------------------------------

TEXTS = st.one_of(
    st.text(st.characters()),
    st.lists(
        st.sampled_from([*BUNDLED.triggers, *BUNDLED.substitutions, "the", "is", ",", ".", "to"]),
        max_size=12,
    ).map(" ".join),
)
STATES = st.builds(
    Conversation,
    cycles=st.dictionaries(
        st.one_of(st.text(max_size=9), st.sampled_from(list(BUNDLED.counters))), st.integers()
    ),
    memory=st.lists(st.text(), max_size=40).map(tuple),
    rest=st.integers(),
)


def assert_bounded(conversation: Conversation) -> None:
    assert len(conversation.memory) <= MAX_MEMORIES
    assert all(0 < len(line) <= MAX_ANSWER for line in conversation.memory)
    assert all(0 < at < BUNDLED.counters[name] for name, at in conversation.cycles.items())
    assert 0 <= conversation.rest < BUNDLED.recall_every


@given(TEXTS, STATES)
def test_any_line_in_any_conversation_has_an_answer(line: str, before: Conversation) -> None:
    copy = msgspec.structs.replace(before, cycles=dict(before.cycles))
    answer, after = respond(BUNDLED, line, before)
    assert answer.strip()
    assert len(answer) <= MAX_ANSWER
    assert_bounded(after)
    assert before == copy
    assert respond(BUNDLED, line, before) == (answer, after)


@given(st.lists(TEXTS, min_size=1, max_size=10))
def test_a_conversation_can_be_encoded_and_stays_bounded_over_200_turns(lines: list[str]) -> None:
    local = remote = Conversation()
    for turn in range(200):
        line = lines[turn % len(lines)]
        answer, local = respond(BUNDLED, line, local)
        decoded = msgspec.msgpack.decode(msgspec.msgpack.encode(remote), type=Conversation)
        assert decoded == remote
        again, remote = respond(BUNDLED, line, decoded)
        assert (again, remote) == (answer, local)
    assert_bounded(local)


@given(st.text())
def test_any_text_is_split_into_words(line: str) -> None:
    for clause in tokenise(BUNDLED, line):
        assert clause
        assert all(word and word.isprintable() and not word.isspace() for word in clause)


# --- the script ---------------------------------------------------------------------------------


def test_every_rule_of_the_bundled_script_can_match() -> None:
    """Each pattern's own words are matched by its rule and by no rule before it."""
    shadowed = []
    for keyword in BUNDLED.keywords.values():
        for rules in (keyword.rules, keyword.memory):
            for number, rule in enumerate(rules):
                line = tuple("x" if e is None else sorted(e)[0] for e in rule.pattern.elements)
                first = next(
                    n for n, r in enumerate(rules) if decompose(r.pattern, line) is not None
                )
                if first != number:
                    shadowed.append(f"{rule.name} by {rules[first].name}")
    assert not shadowed


def test_the_bundled_script_is_rich() -> None:
    assert len(BUNDLED.keywords) > 40
    sentences = [
        reassembly
        for keyword in BUNDLED.keywords.values()
        for rule in keyword.rules
        for reassembly in rule.reassemblies
        if isinstance(reassembly, Sentence)
    ]
    assert len(sentences) > 250


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("I am sad about my mother", "sad about your mother"),
        ("Hello, I can't sleep", "tried"),
        ("I feel that you don't listen to me", "I don't listen to you"),
        ("I dreamt of a blue house", "a blue house"),
        ("do computers think?", "machine"),
        ("everybody laughs at me", "everybody"),
        ("Hello", "Hello"),
        ("I want to die", "person"),
        ("My name is Anna", "Anna"),
        ("goodbye", "Goodbye"),
    ],
)
def test_the_bundled_script_answers_the_topic(line: str, part: str) -> None:
    (answer,) = say(line, script=BUNDLED)
    assert part in answer


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ('none = ["Go on.", "And?"]', "", "none", "a list of strings, found nothing"),
        ('none = ["Go on.", "And?"]', "none = []", "none", "at least one string"),
        ('silence = ["Speak."]', "silence = [3]", "silence", "not blank, found 3"),
        ('silence = ["Speak."]', 'silence = ["(1)"]', "silence", "parts from 1 to 0"),
        ('silence = ["Speak."]', 'silence = ["=my"]', "silence", "to name one of the keywords"),
        ('greeting = "Hello."', 'greeting = " "', "greeting", "not blank, found ' '"),
        ('greeting = "Hello."', 'greetings = "Hello."', "greetings", "one of greeting, none"),
        ("recall_every = 2", "recall_every = 0", "recall_every", "a whole number from 1, found 0"),
        ("rank = 5", "rank = true", "keywords.dream.rank", "a whole number, found True"),
        ("rank = 5", 'also = "x"\nrank = 5', "the script", "TOML: "),
        ('also = ["dreamt"]', 'also = "dreamt"', "keywords.dream.also", "found 'dreamt'"),
        ('also = ["dreamt"]', 'also = ["my"]', "keywords.my", "a word that is not dream's: my"),
        ('also = ["dreamt"]', 'also = ["a b"]', "keywords.dream.also", "a single word"),
        ('also = ["dreamt"]', 'also = ["dont"]', "keywords.dream.also", "'don't', which"),
        ("(2)?", "(3)?", 'keywords.i."* i am *"', "parts from 1 to 2, found (3)"),
        ('"=family", ', '"=famly", ', 'keywords.i."* i met *"', "'=famly' to name one of"),
        ("* my @family *", "* my @famly *", 'keywords.my."* my @famly *"', "one of [groups]: fam"),
        ("* i saw *", "* i'm *", 'keywords.i."* i\'m *"', "'i am', which [substitute] makes"),
        ("* i saw *", "", 'keywords.i.""', "words, @groups or *"),
        ("* i saw *", "*i saw *", 'keywords.i."*i saw *"', "a single word, found '*i'"),
        ("[memory.my]", "[memory.mine]", "memory.mine", "the name of one of the keywords"),
        ('"*" = ["What was the dream?"]', "", "keywords.dream", "at least one rule"),
        ('my = "your"', "my = 1", "reflect.my", "not blank, found 1"),
        ('family = ["mother", "father"]', "family = 1", "groups.family", "a list of strings"),
        ("[substitute]", "[[substitute]]", "substitute", "a table, found [{"),
    ],
)
def test_an_error_names_the_mistake_in_a_script(
    old: str, new: str, key: str, expected: str
) -> None:
    text = small(**{old: new})
    assert text != SMALL
    with pytest.raises(ScriptError) as raised:
        parse(text)
    assert raised.value.key == key
    assert expected in raised.value.expected


def test_what_a_host_reads_is_the_bundled_script() -> None:
    """In JSON, which is read faster; `python -m tests.support.eliza_script` prints it."""
    assert (FOLDER / "eliza.json").read_text(encoding="utf-8") == as_json()
    assert bundled() == BUNDLED
