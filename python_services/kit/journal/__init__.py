"""A service's own stream of events: append-only, hash-chained, durable before anyone is answered.

`Journal` decides and chains; a `Store` makes durable. Which store, configuration says: see `open_store`.
"""

from .copying import copy_stream
from .drivers import open_store
from .event import Event, RequestKey, current_request
from .frames import ZERO_HASH, check_events, check_frame, event_hash
from .store import FencedError, JournalError, Store
from .stream import Journal
from .verify import Verdict, read_frames, verify

__all__ = [
    "ZERO_HASH",
    "Event",
    "FencedError",
    "Journal",
    "JournalError",
    "RequestKey",
    "Store",
    "Verdict",
    "check_events",
    "check_frame",
    "copy_stream",
    "current_request",
    "event_hash",
    "open_store",
    "read_frames",
    "verify",
]
