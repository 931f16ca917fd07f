"""Page tokens: opaque to the caller, and valid only for the list and the data they were made for."""

from __future__ import annotations

import base64
import binascii
import hashlib

from python_services.kit.errors import invalid

DEFAULT_PAGE = 500
_CHECK_BYTES = 12


def page(total: int, page_size: int, page_token: str, scope: str) -> tuple[slice, str]:
    """(the slice of one page, token of the next one or ""). `scope` names method, arguments and data set.

    Raises ServiceError (INVALID_ARGUMENT) for a token that was not made here.
    """
    start = _offset(page_token, scope) if page_token else 0
    stop = start + (page_size or DEFAULT_PAGE)
    return slice(start, stop), _token(stop, scope) if stop < total else ""


def _token(offset: int, scope: str) -> str:
    body = offset.to_bytes(8, "big")
    check = hashlib.sha256(scope.encode() + b"\0" + body).digest()[:_CHECK_BYTES]
    return base64.urlsafe_b64encode(body + check).decode().rstrip("=")


def _offset(token: str, scope: str) -> int:
    try:
        body = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        body = b""
    offset = int.from_bytes(body[:8], "big")
    if _token(offset, scope) != token:
        raise invalid(
            "page_token",
            "was not given out for this list",
            "pass next_page_token of the page before with the same arguments, or none to begin again",
        )
    return offset
