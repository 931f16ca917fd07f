"""The matching engine: one instrument's book, price-time priority, all order types, auctions, bands.

``MatchingEngine`` is the whole interface; commands and events are ``COMMAND`` and ``MATCH_EVENT`` of
``execution_core.types``. How the parts hang together:

layout      the memory: one record, four ladders, lists of orders
ladder      bitmaps that find the best price        store      lists, slots, expiry heap
admission   checks of new orders                    amendment  REPLACE and queue priority
crossing    continuous matching                     triggers   stops, if-touched, trailing
auction     uncrossing                              session    phases, bands, time, mass cancels
kernels     entry points                            audit      the rules that the memory obeys
"""

from execution_core.matching.engine import DEPTH_LEVEL, OPEN_ORDER, Batch, MatchingEngine, warm

__all__ = ["DEPTH_LEVEL", "OPEN_ORDER", "Batch", "MatchingEngine", "warm"]
