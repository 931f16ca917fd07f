"""Pages of a list behind a token: opaque to the caller, good only for the list it was made for (AIP-158)."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from typing import TypeVar

from .errors import invalid

T = TypeVar("T")

DEFAULT_PAGE = 500
_CHECK_BYTES = 12


def page(
    items: Sequence[T], page_size: int, page_token: str, *, scope: str, default: int = DEFAULT_PAGE
) -> tuple[Sequence[T], str]:
    """(one page, token of the next one or ""). `scope` names the method, its arguments and its data.

    `items` must be fixed, or grow at the end only. Raises ServiceError (INVALID_ARGUMENT) for a token
    that was not made here.
    """
    start = position(page_token, scope=scope)
    stop = start + (page_size or default)
    return items[start:stop], token(stop, scope=scope) if stop < len(items) else ""


def token(offset: int, *, scope: str) -> str:
    """The token that leads to `offset` of one list."""
    body = offset.to_bytes(8, "big")
    check = hashlib.sha256(scope.encode() + b"\0" + body).digest()[:_CHECK_BYTES]
    return base64.urlsafe_b64encode(body + check).decode().rstrip("=")


def position(page_token: str, *, scope: str) -> int:
    """The offset that a token leads to; 0 without one. Raises ServiceError (INVALID_ARGUMENT)."""
    if not page_token:
        return 0
    try:
        body = base64.b64decode(page_token + "=" * (-len(page_token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        body = b""
    offset = int.from_bytes(body[:8], "big")
    if token(offset, scope=scope) != page_token:
        raise invalid("page_token", "was not given out for this list", "pass next_page_token unchanged, or none")
    return offset
