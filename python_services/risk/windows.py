"""What instruments did in the stretches of history that scenarios replay, read from market_data's bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from .scenarios import DAY_NS, Historical, Scenario

BEFORE_NS = 10 * DAY_NS  # the close before a stretch is at most a long holiday older
INSTRUMENTS_AT_ONCE = 500  # of one ListBars, which has a limit
FINDINGS_PAGE = 5000


async def replayed(
    market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
    scenarios: Sequence[Scenario],
    instruments: Mapping[str, marketdata_pb2.Instrument],
) -> dict[str, dict[str, float]]:
    """Scenario -> instrument -> simple return of its close over the stretch.

    Bars are unadjusted, so an instrument that was split in a stretch is left out of it, as is one
    without a close before it or whose data ends within it. Raises what ListBars and ListFindings raise.
    """
    stretches = {scenario.name: scenario.kind for scenario in scenarios if isinstance(scenario.kind, Historical)}
    if not stretches:
        return {}
    splits = await _splits(market_data)
    found: dict[str, dict[str, float]] = {}
    for name, stretch in stretches.items():
        covered = [
            i.instrument_id
            for i in instruments.values()
            if i.first_ts_ns < stretch.start_ns
            and i.last_ts_ns >= stretch.end_ns - 4 * DAY_NS  # a weekend and a holiday
            and not any(stretch.start_ns - BEFORE_NS < at < stretch.end_ns for at in splits.get(i.instrument_id, ()))
        ]
        found[name] = {}
        for first in range(0, len(covered), INSTRUMENTS_AT_ONCE):
            request = marketdata_pb2.ListBarsRequest(
                instrument_ids=covered[first : first + INSTRUMENTS_AT_ONCE],
                start_ns=stretch.start_ns - BEFORE_NS,
                end_ns=stretch.end_ns - 1,
            )
            found[name].update(moves((await market_data.ListBars(request)).bars, stretch.start_ns))
    return found


def moves(bars: Iterable[marketdata_pb2.Bar], start_ns: int) -> dict[str, float]:
    """Instrument -> last close over the last one before `start_ns`, less one. Bars come oldest first."""
    before: dict[str, int] = {}
    last: dict[str, int] = {}
    for bar in bars:
        (before if bar.ts_event_ns < start_ns else last)[bar.instrument_id] = bar.close_e9
    return {name: close / before[name] - 1.0 for name, close in last.items() if name in before}


async def _splits(market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    request = marketdata_pb2.ListFindingsRequest(page_size=FINDINGS_PAGE)
    while True:
        page = await market_data.ListFindings(request)
        for finding in page.findings:
            if finding.kind == marketdata_pb2.Finding.KIND_SPLIT:
                found.setdefault(finding.instrument_id, []).append(finding.ts_event_ns)
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token
