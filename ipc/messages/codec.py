"""Decodes messages, and encodes assignments; bytes that are no message raise WireError."""

from typing import Annotated, Any

import msgspec

from garrison.ipc.errors import WireError

from .assignment import Assignment, Group, Reading
from .control import Downward, Upward
from .data import Data
from .encoding import BAD_BYTES, encode

# --- batches ------------------------------------------------------------------------------

FEW = 4096  # messages of a batch that the router reads, which takes some 2 ms

_data = msgspec.msgpack.Decoder(list[Data])
_few = msgspec.msgpack.Decoder(Annotated[list[Data], msgspec.Meta(max_length=FEW)])
_upward = msgspec.msgpack.Decoder(list[Upward])
_downward = msgspec.msgpack.Decoder(list[Downward])


def decode_data(frame: bytes) -> list[Data]:
    """Return a batch of the bus. Raises WireError for any other bytes."""
    try:
        return _data.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_few(frame: bytes) -> list[Data]:
    """Return a batch of the bus, of few messages. Raises WireError for any other bytes."""
    try:
        return _few.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_upward(frame: bytes) -> list[Upward]:
    """Return a batch to the supervisor. Raises WireError for any other bytes."""
    try:
        return _upward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


def decode_downward(frame: bytes) -> list[Downward]:
    """Return a batch from the supervisor. Raises WireError for any other bytes."""
    try:
        return _downward.decode(frame)
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error


# --- assignments --------------------------------------------------------------------------


def _is_group(field: Any) -> bool:
    return isinstance(field.type, type) and issubclass(field.type, Group)


def _flat_fields(cls: type[msgspec.Struct]) -> list[Any]:
    """Return the fields of a Struct with those of its groups in the groups' place."""
    found: list[Any] = []
    for field in msgspec.structs.fields(cls):
        found += _flat_fields(field.type) if _is_group(field) else [field]
    return found


def _definition(field: Any) -> tuple[str, Any, Any]:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.name, field.type, msgspec.field(default_factory=field.default_factory)
    return field.name, field.type, field.default


_GROUPS: dict[str, type[Group]] = {
    field.name: field.type for field in msgspec.structs.fields(Assignment) if _is_group(field)
}
_FlatAssignment: Any = msgspec.defstruct(
    "_FlatAssignment",
    [_definition(field) for field in _flat_fields(Assignment)],
    tag=Assignment.__struct_config__.tag,
    frozen=True,
    kw_only=True,
)
# Each struct takes its own fields of the flat map and skips the others.
_OwnFields: Any = msgspec.defstruct(
    "_OwnFields",
    [_definition(field) for field in msgspec.structs.fields(Assignment) if not _is_group(field)],
    tag=Assignment.__struct_config__.tag,
    frozen=True,
    kw_only=True,
)
_assignment: Any = msgspec.msgpack.Decoder(_OwnFields | Reading)
_groups = {name: msgspec.msgpack.Decoder(group) for name, group in _GROUPS.items()}


def encode_assignment(assignment: Assignment | Reading) -> bytes:
    """Return an assignment as it travels: the fields of its groups stand beside its own."""
    if isinstance(assignment, Reading):
        return encode(assignment)
    fields = {name: getattr(assignment, name) for name in Assignment.__struct_fields__}
    for name in _GROUPS:
        fields |= msgspec.structs.asdict(fields.pop(name))
    return encode(_FlatAssignment(**fields))


def decode_assignment(frame: bytes) -> Assignment | Reading:
    """Return what a new process is to do. Raises WireError for any other bytes."""
    try:
        decoded = _assignment.decode(frame)
        if isinstance(decoded, Reading):
            return decoded
        groups: dict[str, Any] = {name: decoder.decode(frame) for name, decoder in _groups.items()}
    except BAD_BYTES as error:
        raise WireError(str(error), frame) from error
    return Assignment(**msgspec.structs.asdict(decoded), **groups)
