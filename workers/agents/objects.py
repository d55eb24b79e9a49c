"""Objects that a model generates: their schema, and what comes back as a type. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from garrison.ipc.declared_errors import ModelError

from .models import OBJECT_TYPES, TEXT_TYPES, EmbedParams, GenerateObjectParams
from .tools import Generated, Tool, has_tools


def with_schema(model_type: str, params: Any) -> tuple[Any, Any]:
    """Return the type that a request names in place of a schema, and the params with its schema.

    Args:
        model_type: The requested type.
        params: The parameters as the caller has them.

    Returns:
        The type, or None; and what is sent.

    Raises:
        TypeError: There is no JSON Schema of this type.
    """
    if model_type not in OBJECT_TYPES:
        return None, params
    if isinstance(params, GenerateObjectParams):
        wanted, rest = params.schema, msgspec.structs.asdict(params)
    elif isinstance(params, Mapping) and "schema" in params:
        wanted, rest = params["schema"], dict(params)
    else:
        return None, params
    if isinstance(wanted, Mapping):
        return None, params
    fields = {name: value for name, value in rest.items() if value is not None}
    return wanted, {**fields, "schema": json_schema(wanted)}


def with_parameters(model_type: str, params: Any) -> Any:
    """Return params whose tools have JSON Schemas in place of types.

    Raises:
        TypeError: There is no JSON Schema of such a type.
    """
    if model_type not in TEXT_TYPES or not has_tools(params):
        return params
    is_struct = isinstance(params, msgspec.Struct)
    tools = [_with_schema(one) for one in (params.tools if is_struct else params["tools"])]
    if is_struct:
        return msgspec.structs.replace(params, tools=tools)
    return {**params, "tools": tools}


def parameters_schema(parameters: Any) -> dict[str, Any]:
    """Return the JSON Schema of an action's parameters; empty for none.

    Raises:
        TypeError: They are neither a schema of an object nor a type that has one.
    """
    if parameters is None:
        return {}
    found = dict(parameters) if isinstance(parameters, Mapping) else json_schema(parameters)
    if found and found.get("type") != "object":
        raise TypeError(f"parameters must be a Struct or the JSON Schema of an object, not {found}")
    return found


def _with_schema(tool: Any) -> Tool:
    made = tool if isinstance(tool, Tool) else msgspec.convert(tool, Tool)
    if isinstance(made.parameters, Mapping):
        return made
    return msgspec.structs.replace(made, parameters=json_schema(made.parameters))


def json_schema(wanted: Any) -> dict[str, Any]:
    """Return the JSON Schema of a Struct or another type, without a reference at its root.

    Raises:
        TypeError: There is none.
    """
    schema = msgspec.json.schema(wanted)
    reference = schema.get("$ref", "")
    defined = schema.get("$defs", {}).get(reference.rpartition("/")[2])
    return schema if defined is None else {**defined, "$defs": schema["$defs"]}


def as_output(answer: Any, wanted: Any, params: Any) -> Any:
    """Convert a provider's answer to what the request is for.

    Args:
        answer: As it came.
        wanted: The type that the request names in place of a schema, or None.
        params: The parameters.

    Raises:
        ModelError: It does not fit; another model may do better.
    """
    if wanted is None and has_tools(params):
        wanted = Generated
    texts = params.texts if isinstance(params, EmbedParams) else []
    if texts and not (isinstance(answer, list) and len(answer) == len(texts)):
        raise ModelError("refused", text=f"it returned no list of {len(texts)} vectors")
    return as_wanted(answer, wanted)


def as_wanted(answer: Any, wanted: Any) -> Any:
    """Convert an object to the requested type; None leaves it as it is.

    Raises:
        ModelError: It does not fit; another model may do better.
    """
    if wanted is None:
        return answer
    try:
        return msgspec.convert(answer, wanted)
    except msgspec.ValidationError as error:
        raise ModelError("refused", text=f"its object does not fit the type: {error}") from error
