"""Compares requests and answers with X's published schema, as far as the bot uses it.

`x_openapi.json` holds the used paths of X's own OpenAPI document (https://api.x.com/2/openapi.json,
version 2.167), with what they refer to and without descriptions. Objects are closed here: a field
that the schema does not have is a violation.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jsonschema import Draft7Validator

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("x_openapi.json").read_text("utf-8"))
JSON, PROBLEM = "application/json", "application/problem+json"
LISTS = ("array",)


class Operation(NamedTuple):
    """One operation of the schema."""

    method: str
    path: str  # the template
    found: dict[str, Any]

    @property
    def name(self) -> str:
        """Return its name in tests, such as `GET users/*/mentions`."""
        return f"{self.method} {re.sub(r'{[^}]+}', '*', self.path).removeprefix('/2/')}"


def operation_of(method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
    """Return the operation of a request, and its path's parameters; None: there is none."""
    for template, methods in SCHEMA["paths"].items():
        pattern = re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", template)
        found = re.fullmatch(pattern, path)
        if found and method.lower() in methods:
            return Operation(method, template, methods[method.lower()]), found.groupdict()
    return None


def request_problems(
    operation: Operation, path: Mapping[str, str], query: Mapping[str, str], body: Any
) -> list[str]:
    """Return in what a request differs from the schema."""
    declared = {one["name"]: one for one in map(_resolved, operation.found.get("parameters", []))}
    problems = [f"unknown parameter {name}" for name in query if name not in declared]
    for name, one in declared.items():
        given = path if one["in"] == "path" else query
        if name in given:
            problems += _problems(_parsed(given[name], _resolved(one["schema"])), one["schema"])
        elif one.get("required"):
            problems.append(f"no parameter {name}")
    content = operation.found.get("requestBody", {}).get("content", {}).get(JSON)
    if content is not None:
        problems += _problems(body, content["schema"])
    elif body is not None:
        problems.append("a body where none is declared")
    return [f"{operation.name}: {problem}" for problem in problems]


def answer_problems(operation: Operation, status: int, kind: str, body: Any) -> list[str]:
    """Return in what an answer differs from the schema."""
    declared = operation.found["responses"]
    content = declared.get(str(status), declared["default"])["content"].get(kind)
    if content is None:
        return [f"{operation.name}: {status} has no {kind}"]
    return [f"{operation.name} {status}: {one}" for one in _problems(body, content["schema"])]


def _problems(value: Any, schema: Mapping[str, Any]) -> list[str]:
    root = {**_closed(schema), "components": _CLOSED}
    return [
        f"{'/'.join(map(str, error.path))}: {error.message[:200]}"
        for error in Draft7Validator(root).iter_errors(value)
    ]


def _resolved(one: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in one:
        kind, name = one["$ref"].split("/")[-2:]
        one = SCHEMA["components"][kind][name]
    return one


def _parsed(text: str, schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "array":
        return text.split(",")
    if schema.get("type") == "integer" and text.lstrip("-").isdigit():
        return int(text)
    return text


def _closed(schema: Any) -> Any:
    """Return a schema of OpenAPI 3.0 as one of JSON Schema, its objects closed."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:  # what stands beside it does not count
        return {"$ref": schema["$ref"]}
    found = {name: _closed(value) for name, value in schema.items() if name != "discriminator"}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        found.setdefault("additionalProperties", False)
    if found.pop("nullable", False) and "type" in found:
        found["type"] = [found["type"], "null"]
    return found


_CLOSED = _closed(SCHEMA["components"])
