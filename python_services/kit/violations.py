"""What a violation of the contract's rules is about."""

from __future__ import annotations

import protovalidate


def field_path(violation: protovalidate.Violation) -> str:
    """ "orders[0].quantity_e9"; empty for a rule about the whole message."""
    if violation.proto.field is None:
        return ""
    parts = []
    for element in violation.proto.field.elements:
        subscript = element.subscript
        parts.append(element.field_name + (f"[{subscript.value}]" if subscript is not None else ""))
    return ".".join(parts)
