"""Whether what was served online is what the historical path gives for the same rows. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from alphamesh.audit.v1 import event_pb2
from alphamesh.feature.v1 import events_pb2, feature_pb2

from .definitions import Floats

LISTED = 100
_SERVED = events_pb2.FeaturesServed.DESCRIPTOR.full_name


def served(
    frames: Iterable[event_pb2.EventFrame], set_version: str, start_ns: int, end_ns: int
) -> Iterator[tuple[str, int, int, Floats]]:
    """(instrument, cut of the data, cut of the caller, values) of each row of a set that was served in [start, end)."""
    for frame in frames:
        for envelope in frame.events:
            if envelope.schema == _SERVED and start_ns <= envelope.ts_event_ns < end_ns:
                event = events_pb2.FeaturesServed.FromString(envelope.payload)
                if event.feature_set_version == set_version:
                    yield from _rows(event)


def _rows(event: events_pb2.FeaturesServed) -> Iterator[tuple[str, int, int, Floats]]:
    values = np.frombuffer(event.values, "<f8").reshape(len(event.instrument_ids), -1)
    for name, row in zip(event.instrument_ids, values, strict=True):
        yield name, event.as_of_ns, event.known_at_ns, row


def differences(
    feature_ids: Sequence[str], names: Sequence[str], as_of_ns: Sequence[int], online: Floats, past: Floats,
    tolerance: float,
) -> tuple[int, list[feature_pb2.ParityDifference]]:  # fmt: skip
    """(how many values differ, the first of them by time, instrument and feature)."""
    absent = np.isnan(online) & np.isnan(past)
    scale = np.maximum(np.abs(online), np.abs(past))
    with np.errstate(invalid="ignore"):
        close = (online == past) | (np.abs(online - past) <= tolerance * scale)
    found = [
        (as_of_ns[row], names[row], feature_ids[column], float(online[row, column]), float(past[row, column]))
        for row, column in zip(*np.nonzero(~(absent | close)), strict=True)
    ]
    found.sort(key=lambda each: each[:3])
    return len(found), [_message(*each) for each in found[:LISTED]]


def _message(as_of_ns: int, name: str, feature_id: str, online: float, past: float) -> feature_pb2.ParityDifference:
    return feature_pb2.ParityDifference(
        instrument_id=name,
        feature_id=feature_id,
        as_of_ns=as_of_ns,
        online=None if math.isnan(online) else online,
        historical=None if math.isnan(past) else past,
    )
