"""Identifiers derived from content, so that a repeated step carries the same key."""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.UUID("6f1f7b52-0a0e-5c4e-9a39-0c3a8f6d2b11")


def request_id(*parts: str | int) -> str:
    """A UUID (version 5, RFC 9562 section 5.5) that names one step of one decision."""
    return str(uuid.uuid5(_NAMESPACE, "/".join(map(str, parts))))


def content_id(content: bytes | memoryview) -> str:
    """Hex sha256."""
    return hashlib.sha256(content).hexdigest()
