"""Taking in bars: a request is checked completely, then all of it is an event, or nothing is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2
from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError, invalid, not_found, precondition

from .history import History
from .instruments import NANO, Session
from .sessions import describe, session_times
from .versions import Versions
from .watermarks import Watermarks

_PRICES = ("open", "high", "low", "close")
_COLUMNS = ("ts_event_ns", "known_at_ns", *(f"{name}_e9" for name in (*_PRICES, "volume")))
_EPOCH = date(1970, 1, 1)


def prepare(
    request: marketdata_pb2.IngestBarsRequest, history: History, watermarks: Watermarks, limit: int
) -> tuple[events_pb2.BarsIngested, int]:
    """(event with what is new, number of repetitions). Nothing is changed yet.

    Raises ServiceError: NOT_FOUND, INVALID_ARGUMENT, FAILED_PRECONDITION (LATE_KNOWLEDGE, BAR_CONFLICT),
    RESOURCE_EXHAUSTED (INGESTED_BARS_LIMIT).
    """
    versions = _versions(request, history)
    _check_values(versions)
    _check_sessions(versions, [bar.ts_open_ns for bar in request.bars], history.dataset.session)
    new = _new(request, versions, history)
    _check_sealed(request.stream, versions, new, watermarks)
    if len(history) + len(new) > limit:
        raise ServiceError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "INGESTED_BARS_LIMIT",
            f"{len(history)} versions of bars are held and {len(new)} more would pass the limit of {limit}; write old "
            "ones to a file of the data set, or raise ingested_bars_limit in the configuration of market_data",
            metadata={"held": str(len(history)), "limit": str(limit)},
        )
    return _event(request, [request.bars[i] for i in new]), len(request.bars) - len(new)


def apply(event: events_pb2.BarsIngested, history: History, watermarks: Watermarks) -> None:
    """Makes an event part of what is known, now or after a start. Raises ConfigError for an unknown instrument."""
    rows = [history.row(name) for name in event.instrument_ids]
    if -1 in rows:
        name = event.instrument_ids[rows.index(-1)]
        raise ConfigError(
            f"the journal holds ingested bars of {name!r}, which the instruments file does not list; add it there"
        )
    columns: dict[str, Any] = {name.removesuffix("_e9"): getattr(event, name) for name in _COLUMNS}
    columns |= {"row": np.array(rows, dtype=np.int64)[np.array(event.instrument_index, dtype=np.intp)]}
    columns |= {"step": event.adjustment_step, "split_step": event.split_ratio}
    columns |= {"stream": np.full(len(event.ts_event_ns), history.stream(event.stream))}
    versions = Versions.of(columns)
    history.append(event.stream, versions, event.ts_open_ns)
    watermarks.advance(event.stream, event.watermark_ns)


def _event(
    request: marketdata_pb2.IngestBarsRequest, bars: Sequence[marketdata_pb2.BarVersion]
) -> events_pb2.BarsIngested:
    names = sorted({bar.instrument_id for bar in bars})
    index = {name: i for i, name in enumerate(names)}
    return events_pb2.BarsIngested(
        stream=request.stream,
        instrument_ids=names,
        instrument_index=[index[bar.instrument_id] for bar in bars],
        adjustment_step=[bar.adjustment_step for bar in bars],
        split_ratio=[bar.split_ratio for bar in bars],
        watermark_ns=request.watermark_ns,
        ts_open_ns=[bar.ts_open_ns for bar in bars],
        **{name: [getattr(bar, name) for bar in bars] for name in _COLUMNS},
    )


def _versions(request: marketdata_pb2.IngestBarsRequest, history: History) -> Versions:
    rows = [history.row(bar.instrument_id) for bar in request.bars]
    if -1 in rows:
        raise not_found(
            "instrument", request.bars[rows.index(-1)].instrument_id, "ListInstruments names the known ones"
        )
    columns: dict[str, Any] = {
        name.removesuffix("_e9"): [getattr(bar, name) for bar in request.bars] for name in _COLUMNS
    }
    columns |= {"row": rows, "stream": np.zeros(len(rows))}
    columns |= {"step": [bar.adjustment_step for bar in request.bars]}
    columns |= {"split_step": [bar.split_ratio for bar in request.bars]}
    return Versions.of(columns)


def _check_values(bars: Versions) -> None:
    for name in _PRICES:
        _refuse(getattr(bars, name) <= 0, f"{name}_e9", "the price is not positive", "send it as it was traded")
    remedy = "send the bar as it was traded"
    _refuse(bars.high < bars.low, "high_e9", "high is below low", remedy)
    for name in ("open", "close"):
        outside = (getattr(bars, name) < bars.low) | (getattr(bars, name) > bars.high)
        _refuse(outside, f"{name}_e9", f"{name} is outside low and high", remedy)
    _refuse(bars.volume < 0, "volume_e9", "the volume is negative", remedy)
    early = bars.known_at_ns < bars.ts_event_ns
    _refuse(early, "known_at_ns", "is before the bar's close", "a bar is known at its close at the earliest")


def _check_sessions(bars: Versions, open_ns: Iterable[int], session: Session) -> None:
    opens, closes = _sessions(bars.ts_event_ns, session)
    rule = f"sessions are {session.open} to {session.close} in {session.timezone}"
    for i in np.flatnonzero(bars.ts_event_ns != closes)[:1].tolist():
        raise invalid(f"bars[{i}].ts_event_ns", "is no session's close", f"send {closes[i]}; {rule}")
    for i in np.flatnonzero(np.array(list(open_ns), dtype=np.int64) != opens)[:1].tolist():
        raise invalid(f"bars[{i}].ts_open_ns", "is not its session's open", f"send {opens[i]}; {rule}")


def _sessions(ts_event_ns: NDArray[np.int64], session: Session) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(open, close) of the session on the day of each moment, in the exchange's time zone."""
    moments, place = np.unique(ts_event_ns, return_inverse=True)
    zone = session.zone()
    days = [(datetime.fromtimestamp(moment // NANO, zone).date() - _EPOCH).days for moment in moments.tolist()]
    opens, closes = session_times(np.array(days, dtype=np.int64), session)
    return opens[place], closes[place]


def _new(request: marketdata_pb2.IngestBarsRequest, versions: Versions, history: History) -> list[int]:
    """Positions of the versions that are not held; none may contradict one that is."""
    new: list[int] = []
    taken: dict[tuple[int, int, int], tuple[float, ...]] = {}
    keys = zip(versions.row.tolist(), versions.ts_event_ns.tolist(), versions.known_at_ns.tolist(), strict=True)
    for i, key in enumerate(keys):
        said, says = taken.get(key) or history.said(*key), versions.values(i)
        if said is None:
            new.append(i)
            taken[key] = says
        elif said != says:
            bar = request.bars[i]
            raise precondition(
                "BAR_CONFLICT",
                f"bars[{i}]: another bar of {bar.instrument_id} for {describe(bar.ts_event_ns)} is known since the "
                f"same moment, {describe(bar.known_at_ns)}; send the right one with a later known_at_ns",
                field=f"bars[{i}]",
                instrument_id=bar.instrument_id,
            )
    return new


def _check_sealed(stream: str, versions: Versions, new: list[int], watermarks: Watermarks) -> None:
    watermark_ns = watermarks.of(stream)
    for i in new:
        known_at_ns = int(versions.known_at_ns[i])
        if known_at_ns <= watermark_ns:
            raise precondition(
                "LATE_KNOWLEDGE",
                f"bars[{i}].known_at_ns: {describe(known_at_ns)} is sealed: what was known up to "
                f"{describe(watermark_ns)} was promised to be complete, or is inside a snapshot; it is known here only "
                f"now, so send a known_at_ns after {watermark_ns}",
                field=f"bars[{i}].known_at_ns",
                watermark_ns=str(watermark_ns),
            )


def _refuse(bad: NDArray[np.bool_], field: str, problem: str, remedy: str) -> None:
    for i in np.flatnonzero(bad)[:1].tolist():
        raise invalid(f"bars[{i}].{field}", problem, remedy)
