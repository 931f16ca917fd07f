"""Pages of a list behind an opaque token (google.aip.dev/158)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from .errors import invalid

T = TypeVar("T")


def page(items: Sequence[T], size: int, token: str, *, scope: str, default: int = 500) -> tuple[Sequence[T], str]:
    """(one page, token of the next or ""). `scope` ties a token to its method.

    `items` must only ever grow at the end, or be fixed. Raises ServiceError for a token that is not
    from this method.
    """
    start = _decode(token, scope) if token else 0
    end = start + (size or default)
    following = _encode(end, scope) if end < len(items) else ""
    return items[start:end], following


def _encode(offset: int, scope: str) -> str:
    return base64.urlsafe_b64encode(f"{scope}:{offset}".encode()).decode()


def _decode(token: str, scope: str) -> int:
    try:
        name, _, offset = base64.urlsafe_b64decode(token.encode()).decode().rpartition(":")
        if name == scope and offset.isdecimal():
            return int(offset)
    except (binascii.Error, UnicodeDecodeError, ValueError):
        pass
    raise invalid("page_token", "is not a token of this method", "pass next_page_token unchanged, or none")
