"""One line about a message, for a person: its plain fields by name. Nothing is computed from it."""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

LONGEST = 160
_NESTED = FieldDescriptor.TYPE_MESSAGE


def message_type(schema: str) -> type[Message]:
    """The class of a full protobuf name. Raises KeyError for one that is not compiled in."""
    return message_factory.GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(schema))


def line(message: Message) -> str:
    """Numbers, texts and enumerations that are set, at the top level and one below."""
    parts: list[str] = []
    _collect(message, parts, deeper=True)
    text = " ".join(parts)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


@cache
def path_to(descriptor: Descriptor, name: str, depth: int = 3) -> tuple[str, ...]:
    """Names of the fields that lead to the nearest text field `name`; empty when there is none."""
    field = descriptor.fields_by_name.get(name)
    if field is not None and field.type == FieldDescriptor.TYPE_STRING:
        return (name,)
    if depth > 1:
        for field in descriptor.fields:
            if field.type == _NESTED and not field.is_repeated:
                found = path_to(field.message_type, name, depth - 1)
                if found:
                    return (field.name, *found)
    return ()


def value_at(message: Message, name: str) -> str:
    """Text of the nearest field `name`; empty when the message has none."""
    path = path_to(message.DESCRIPTOR, name)
    value: object = message
    for part in path:
        value = getattr(value, part)
    return str(value) if path else ""


def _collect(message: Message, parts: list[str], *, deeper: bool) -> None:
    for field, value in message.ListFields():
        if field.is_repeated or field.type == FieldDescriptor.TYPE_BYTES:
            continue
        if field.type == _NESTED:
            if deeper:
                _collect(value, parts, deeper=False)
        elif field.type == FieldDescriptor.TYPE_ENUM:
            parts.append(f"{field.name}={_short(field, value)}")
        elif isinstance(value, float):
            parts.append(f"{field.name}={value:.6g}")
        elif not (isinstance(value, str) and len(value) > 64):
            parts.append(f"{field.name}={value}")


def _short(field: FieldDescriptor, number: int) -> str:
    assert field.enum_type is not None
    values = field.enum_type.values_by_number
    prefix = field.enum_type.values[0].name.removesuffix("UNSPECIFIED")
    return values[number].name.removeprefix(prefix) if number in values else str(number)
