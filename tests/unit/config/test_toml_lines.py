"""The line that a configuration error names is the one that the mistake is in."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from garrison.supervisor.config.toml_lines import KeyPath, Lines, dotted

TEXT = '''\
top = 1 # [services.decoy]

[services."dotted.name"]    # a quoted header
grace = 1
text = """
[services.decoy]
grace = 2
""""
'literal' = \'\'\'
grace = 3\'\'\'
[services.late.config]
list = [
  1, # ]
  "]",
  { deep = [
      {x = 1},
  ] },
]
a . "b.c" . d = "x # y"
[services.late]
grace = 1979-05-27 07:32:00
inline = { one = 1, two = { three = "}" } }
[[tables]]
x = 1
[[tables]]
x = 2
[tables.sub]
y = 3
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("top",), 1),
        (("services", "dotted.name"), 3),
        (("services", "dotted.name", "grace"), 4),
        (("services", "dotted.name", "text"), 5),
        (("services", "dotted.name", "literal"), 9),
        (("services", "late"), 20),
        (("services", "late", "config"), 11),
        (("services", "late", "config", "list", 1), 14),
        (("services", "late", "config", "list", 2, "deep", 0, "x"), 16),
        (("services", "late", "config", "a", "b.c", "d"), 19),
        (("services", "late", "grace"), 21),
        (("services", "late", "inline", "two", "three"), 22),
        (("tables", 0, "x"), 24),
        (("tables", 1, "x"), 26),
        (("tables", 1, "sub", "y"), 28),
        (("services", "late", "inline", "two", "missing", "deeper"), 22),
        (("services", "decoy"), 3),
        (("nowhere",), None),
    ],
)
def test_each_key_has_its_line(path: KeyPath, line: int | None) -> None:
    """A key is found wherever TOML lets it stand; one that is not there has its table's line."""
    assert Lines(TEXT).find(path) == line


def test_a_path_reads_as_toml_writes_it() -> None:
    """Keys that need quotes have them, and places in lists stand in brackets."""
    assert dotted(("services", "a.b", "depends_on", 2)) == 'services."a.b".depends_on[2]'
    assert dotted(('line\nbreak "x"',)) == '"line\\nbreak \\"x\\""'


KEYS = st.sampled_from(["a", "b-c", '"d.e"', "'f g'", '"\\u0041"', '"#"', '"="', '"]"', "1"])
VALUES = st.sampled_from(
    [
        *("1", "-0.5", "true", "07:32:00", "1979-05-27 07:32:00Z", "inf", "{}", "[]"),
        *('""', "''", '"\\""', '"# = ["', "'\\'", '""""""', "''''''", '""" "" """', "''' '' '''"),
        *('"""\n[a]\na = 1\n"""', "'''\n[a]\n'''", '"""\\""""""', "'''x'''''", '"""x\\\n  """'),
        *("[\n1,\n# ] 'x\n2,]", "[[1, 2], ['a', \"]\"]]", "{ x = 1, 'y'.z = [\n{ w = '}' }] }"),
    ]
)
GAP = st.sampled_from(["", "\n", "# [a]\n", '  # """\n', "\t\n\n"])
PAIRS = st.lists(st.tuples(GAP, KEYS, VALUES), max_size=4, unique_by=lambda pair: pair[1])
TABLES = st.lists(st.tuples(st.lists(KEYS, min_size=1, max_size=3), PAIRS), max_size=5)


def unquoted(key: str) -> str:
    """Return a key as tomllib has it."""
    return next(iter(tomllib.loads(f"{key} = 0")))


@given(TABLES)
def test_any_file_of_tables_is_found(tables: list[tuple[list[str], Any]]) -> None:
    """Whatever the values hold, each key has the line that it was written to."""
    text, written = "", dict[KeyPath, int]()
    for number, (header, pairs) in enumerate(tables):
        table: KeyPath = (f"t{number}", *map(unquoted, header))
        written[table] = text.count("\n") + 1
        text += f"[ t{number} . {'.'.join(header)} ] # x\n"
        for gap, key, value in pairs:
            text += gap
            written[*table, unquoted(key)] = text.count("\n") + 1
            text += f" {key} = {value}\n"
    tomllib.loads(text)  # or the test shows nothing
    lines = Lines(text)
    assert {path: lines.find(path) for path in written} == written


def test_a_text_that_is_nested_deeply_has_the_lines_up_to_there() -> None:
    """Lines are read when an error wants one, where less of the stack may be left than when the
    text was parsed; the error itself is what counts then."""
    lines = Lines("a = 1\nb = " + "[" * 100_000 + "]" * 100_000 + "\nc = 2\n")
    assert lines.find(("a",)) == 1
    assert lines.find(("b", 0)) == 2
    assert lines.find(("c",)) is None
