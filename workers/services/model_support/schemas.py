"""Objects by JSON Schema: what a provider is sent, and whether its answer fits. Pure.

The check covers what models get wrong: types, missing and unknown fields, choices. Patterns,
formats and numeric limits are left to the caller's type.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

from garrison.workers import ModelError

VALUE = "value"  # the field of an object around what is none; providers take objects alone
DEEPEST = 32  # levels of an object that are checked
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.S)


def sent_schema(schema: Any) -> dict[str, Any]:
    """Return the schema of an object: the caller's, or one with the caller's as its only field.

    Raises:
        ModelError: It is no schema.
    """
    if not isinstance(schema, Mapping) or not schema:
        raise ModelError("invalid", text="an object needs `schema`, a JSON Schema or a type")
    whole = dict(schema)
    if whole.get("type") == "object":
        return whole
    definitions = {name: whole.pop(name) for name in ("$defs", "definitions") if name in whole}
    return {
        "type": "object",
        "properties": {VALUE: whole},
        "required": [VALUE],
        "additionalProperties": False,
        **definitions,
    }


def object_of(text: str, schema: Any) -> Any:
    """Return the object that a text is, as the caller's schema has it.

    Raises:
        ModelError: It is not JSON, or does not fit; another provider may do better.
    """
    fenced = _FENCED.search(text)
    try:
        value = json.loads(fenced[1] if fenced else text)
    except ValueError as error:
        raise ModelError("refused", text=f"it wrote no JSON: {text[:80]!r}") from error
    return checked(value, schema)


def checked(value: Any, schema: Any) -> Any:
    """Return an object as the caller's schema has it; raises as `object_of` does."""
    sent = sent_schema(schema)
    wrong = mismatch(value, sent, sent)
    if wrong:
        raise ModelError("refused", text=f"its object does not fit the schema: {wrong}")
    return value if schema.get("type") == "object" else value[VALUE]


def mismatch(value: Any, schema: Any, root: Mapping[str, Any], at: str = "", depth: int = 0) -> str:
    """Return where and why a value does not follow a schema; empty if it does."""
    if not isinstance(schema, Mapping) or depth > DEEPEST:
        return ""
    if "$ref" in schema:
        return mismatch(value, _resolved(schema["$ref"], root), root, at, depth + 1)
    for word in ("anyOf", "oneOf"):
        choices = schema.get(word, [])
        found = [mismatch(value, one, root, at, depth + 1) for one in choices]
        if found and all(found):
            return found[0]
    return _own_mismatch(value, schema, at or "it") or _inner(value, schema, root, at, depth)


def _own_mismatch(value: Any, schema: Mapping[str, Any], at: str) -> str:
    wanted = schema.get("type")
    names = [wanted] if isinstance(wanted, str) else wanted or []
    if names and not any(_is_a(value, name) for name in names):
        return f"{at} is {value!r:.40}, not {' or '.join(names)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{at} is {value!r:.40}, not one of {schema['enum']!r:.200}"
    if "const" in schema and value != schema["const"]:
        return f"{at} is {value!r:.40}, not {schema['const']!r:.40}"
    return ""


def _inner(
    value: Any, schema: Mapping[str, Any], root: Mapping[str, Any], at: str, depth: int
) -> str:
    if isinstance(value, list):
        inner = ((f"{at}[{n}]", one, schema.get("items")) for n, one in enumerate(value))
    elif isinstance(value, dict):
        known = schema.get("properties", {})
        for name in schema.get("required", []):
            if name not in value:
                return f"{at or 'it'} lacks {name!r}"
        rest = schema.get("additionalProperties", True)
        for name in value:
            if name not in known and rest is False:
                return f"{at or 'it'} has an unknown field {name!r:.40}"
        inner = ((f"{at}.{k}".lstrip("."), one, known.get(k, rest)) for k, one in value.items())
    else:
        return ""
    found = (mismatch(one, of, root, where, depth + 1) for where, one, of in inner)
    return next(filter(None, found), "")


def _is_a(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, TYPES.get(name, (object,)))


def _resolved(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return what a reference within the same schema names; anything is allowed elsewhere."""
    found: Any = root
    for name in str(reference).removeprefix("#/").split("/"):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
