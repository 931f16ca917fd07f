"""Scores texts as they come in, before anybody asks, so that a decision waits for the last ones only.

A score is a function of the text, so what is scored, and when, changes no answer. That is also why the frames are not
checked against each other here: a forecast reads its texts from the snapshot, by their hash.
"""

from __future__ import annotations

import asyncio

from alphamesh.marketdata.v1 import events_pb2
from python_services.kit import metrics
from python_services.kit.eventlog import EventLog

from .scoring import Scorer

STREAM = "market_data"
_INGESTED = events_pb2.TextsIngested.DESCRIPTOR.full_name
_PAUSE_S = 1.0  # after a failure: whoever needs a score asks again


async def follow(events: EventLog, scorer: Scorer) -> None:
    """Never returns."""
    seen = 0
    metrics.figure("alphamesh_texts_seen_total", "Texts that came in and were scored ahead.", lambda: seen)
    async for frame in events.subscribe(STREAM, 1):
        for envelope in frame.events:
            if envelope.schema != _INGESTED:
                continue
            for text in events_pb2.TextsIngested.FromString(envelope.payload).texts:
                if await scorer.ahead(text.text) is not None:
                    await asyncio.sleep(_PAUSE_S)
                seen += 1
