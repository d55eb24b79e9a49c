"""Objects that a model generates: their schema, and what comes back as a type. Pure."""

from collections.abc import Mapping
from typing import Any

import msgspec

from garrison.ipc.declared_errors import ModelError

from .models import OBJECT_TYPES, GenerateObjectParams


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


def json_schema(wanted: Any) -> dict[str, Any]:
    """Return the JSON Schema of a Struct or another type, without a reference at its root.

    Raises:
        TypeError: There is none.
    """
    schema = msgspec.json.schema(wanted)
    reference = schema.get("$ref", "")
    defined = schema.get("$defs", {}).get(reference.rpartition("/")[2])
    return schema if defined is None else {**defined, "$defs": schema["$defs"]}


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
