"""Backtest many instruments and many variants on bars, with costs and the pre-trade gate in the loop.

A path is one account trading one set of targets: one parameter set, one seed, one scenario. For
every bar, a path

1. matches the orders of the bar before (``bars.match_bars``: slippage, impact, volume cap),
2. books fills and fees in its gate, and marks its positions at the close,
3. turns the targets of this bar into market orders, judged by its gate (reducing orders first,
   each cut to what fits), to be matched in the next bar.

So no decision sees the bar that it trades in, and what the gate denies in production it denies
here. Paths do not touch each other: they run on threads in any order with the same result.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.gate import layout
from execution_core.gate.facts import InstrumentFacts, Policy
from execution_core.gate.gate import Gate, Mode
from execution_core.gate.kernels import check, fill_one, price_one, release_one
from execution_core.gate.layout import LOTS_MAX
from execution_core.gate.memory import account_of, instrument_of
from execution_core.jit import kernel
from execution_core.simulation.bar_kernels import UNBOUNDED, match
from execution_core.simulation.bars import UNCAPPED, fill_models, validate_bars, validate_models
from execution_core.simulation.fees import FeeModel, fee_nano
from execution_core.types import (
    BACKTEST_FILL,
    BAR,
    GATE_ORDER,
    NO_PRICE,
    RESTING_ORDER,
    VENUE_EVENT,
    VERDICT,
    DenialReason,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    TradingState,
    VenueEventKind,
)

Records = NDArray[np.void]
Int64Array = NDArray[np.int64]

# A target that leaves the position as it is.
KEEP = NO_PRICE

_MILLION = 1_000_000
_DAY_NS = 86_400_000_000_000
_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_MARKET, _DAY = int(OrderType.MARKET), int(TimeInForce.DAY)
_ACCEPTED = int(OrderState.ACCEPTED)
_FILL, _TRIGGERED = int(VenueEventKind.FILL), int(VenueEventKind.TRIGGERED)
_REASONS = max(DenialReason) + 1
_FIT = int(Mode.FIT)


class Sizing(IntEnum):
    """What a target is: lots held, or parts per million of the account's equity at the close."""

    LOTS = 0
    EQUITY_PPM = 1


@dataclass(frozen=True, kw_only=True)
class BacktestResult:
    """What came of the paths, which stand in the order of the targets.

    equity     int64 (paths, bars), nano money after each bar
    fills      ``BACKTEST_FILL`` (n,), by path, then time
    positions  int64 (paths, instruments), lots at the end
    denials    int64 (paths, DenialReason + 1): orders denied or cut, by the deciding reason
    """

    equity: Int64Array
    fills: Records
    positions: Int64Array
    denials: Int64Array


@kernel
def _survey(targets: Int64Array, bound: int, decisions: Int64Array) -> bool:
    """Count the decisions of each path; False if one is beyond `bound`."""
    for path in range(targets.shape[0]):
        count, wild = 0, 0
        for t in range(targets.shape[1]):
            for i in range(targets.shape[2]):
                target = targets[path, t, i]
                count += target != KEEP
                wild += (target != KEEP) & ((target > bound) | (target < -bound))
        decisions[path] = count
        if wild > 0:
            return False
    return True


@kernel
def _wanted(block: int, target: int, sizing: int, i: int) -> int:
    """Lots that a target means, at the instrument's mark."""
    if sizing == 0:
        return target
    account, row = account_of(block), instrument_of(block, i)
    equity = max(account.cash + account.position_value, 0)
    unit = row.mark * row.tick_value
    size = abs(target)
    # equity x ppm overflows; the rest of the division is worth less than a lot's rounding.
    amount = (equity // _MILLION) * size + (equity % _MILLION) * size // _MILLION
    lots = min(amount // unit, LOTS_MAX // 2)
    return int(lots if target > 0 else -lots)


@kernel
def _book(
    block: int, path: int, orders: Records, handles: Int64Array, events: Records, fees: Int64Array, fills: Records
) -> int:
    """Take the venue's events into the gate; returns the fills written, or -1 out of the gate's range."""
    count = 0
    for event in events:
        row = event["row"]
        if event["kind"] == _FILL:
            i = event["instrument"]
            notional = event["price"] * event["lots"] * instrument_of(block, i).tick_value
            fee = fee_nano(event["lots"], notional, event["liquidity"], fees)
            if fill_one(block, handles[row], i, event["side"], event["lots"], event["price"], fee) < 0:
                return -1
            fill = fills[count]
            fill["ts_event_ns"] = event["ts_event_ns"]
            fill["price"] = event["price"]
            fill["lots"] = event["lots"]
            fill["fee_nano"] = fee
            fill["path"] = path
            fill["instrument"] = i
            fill["side"] = event["side"]
            fill["liquidity"] = event["liquidity"]
            count += 1
        elif event["kind"] != _TRIGGERED:
            release_one(block, handles[row], event["lots"])
    return count


@kernel
def _decide(block: int, targets: Int64Array, chosen: Int64Array, sizing: int, requests: Records) -> int:
    """Write the orders that lead to the targets of the `chosen`, reductions first; returns their number."""
    count = 0
    for reduces in (True, False):
        for i in chosen:
            held = instrument_of(block, i).position
            change = _wanted(block, targets[i], sizing, i) - held
            shrinks = held != 0 and (change > 0) == (held < 0)
            if change == 0 or shrinks != reduces:
                continue
            request = requests[count]
            request["client_order_hash"] = 0
            request["lots"] = abs(change)
            request["price"] = 0
            request["trigger"] = 0
            request["expire_ns"] = 0
            request["instrument"] = i
            request["side"] = _BUY if change > 0 else _SELL
            request["type"] = _MARKET
            request["time_in_force"] = _DAY
            request["flags"] = 0
            count += 1
    return count


@kernel
def run_path(
    block: int,
    path: int,
    bars: Records,
    clock: Int64Array,
    targets: Int64Array,
    sizing: int,
    models: Records,
    caps: Int64Array,
    fees: Int64Array,
    equity: Int64Array,
    fills: Records,
    denials: Int64Array,
) -> int:
    """One path from its first bar to its last; returns its fills, or -(1 + bar) where the gate's range ended."""
    steps, instruments = targets.shape
    orders = np.zeros(instruments, RESTING_ORDER)
    handles = np.zeros(instruments, np.int64)
    events = np.zeros(3 * instruments, VENUE_EVENT)
    requests = np.zeros(instruments, GATE_ORDER)
    verdicts = np.zeros(instruments, VERDICT)
    chosen = np.zeros(instruments, np.int64)
    waiting = np.zeros(instruments, np.int64)
    used = np.zeros(instruments, np.int64)
    sequence = np.arange(instruments)
    account = account_of(block)
    live, filled = 0, 0
    for t in range(steps):
        if live > 0:
            for k in range(live):
                used[orders[k]["instrument"]] = 0
            count = match(orders[:live], sequence[:live], bars[t], models, True, True, caps[t], used, events)
            booked = _book(block, path, orders, handles, events[:count], fees, fills[filled:])
            if booked < 0:
                return -1 - t
            filled += booked
            kept = 0
            for k in range(live):
                waiting[orders[k]["instrument"]] = 0
                if orders[k]["leaves"] > 0:  # its instrument had no bar
                    waiting[orders[k]["instrument"]] = 1
                    orders[kept] = orders[k]
                    handles[kept] = handles[k]
                    kept += 1
            live = kept

        decided = 0
        for i in range(instruments):
            decides = targets[t, i] != KEEP
            # The mark of an instrument that is neither held nor ordered changes nothing.
            if not decides and instrument_of(block, i).position == 0:
                continue
            bar = bars[t, i]
            if bar["ts_event_ns"] == 0:
                continue
            if price_one(block, i, bar["close"], bar["ts_event_ns"], 0, 0) < 0:
                return -1 - t
            if decides and waiting[i] == 0:
                chosen[decided] = i
                decided += 1
        if t > 0 and clock[t] // _DAY_NS != clock[t - 1] // _DAY_NS:
            account.day_start_equity = equity[t - 1]
        equity[t] = account.cash + account.position_value
        account.peak_equity = max(account.peak_equity, equity[t])

        count = _decide(block, targets[t], chosen[:decided], sizing, requests)
        if count == 0:
            continue
        if check(block, requests[:count], verdicts[:count], clock[t], _FIT, 1) < 0:
            return -1 - t
        for k in range(count):
            verdict, request = verdicts[k], requests[k]
            if verdict["mask"] != 0:
                denials[verdict["reason"]] += 1
            if verdict["lots"] == 0:
                continue
            order = orders[live]
            order["type"] = _MARKET
            order["tif"] = _DAY
            order["side"] = request["side"]
            order["instrument"] = request["instrument"]
            order["leaves"] = verdict["lots"]
            order["state"] = _ACCEPTED
            order["flags"] = 0
            handles[live] = verdict["reservation"]
            live += 1
    return filled


def run(
    bars: Records,
    targets: Int64Array,
    *,
    gate: Gate,
    models: Records,
    fees: FeeModel,
    sizing: Sizing = Sizing.LOTS,
    threads: int = 1,
) -> BacktestResult:
    """Run every path of `targets` over the same bars.

    Parameters
    ----------
    bars
        ``BAR`` (bars, instruments), prices of 1 tick or more; ``ts_event_ns == 0`` where an
        instrument has no bar. Each row is one session (daily bars).
    targets
        int64 (paths, bars, instruments): the position wanted after this bar, or KEEP.
    gate
        The account that every path starts from: instruments 0.., policy, cash, positions. It is
        copied, not changed. Give it no more reservations and memory of orders than needed: each
        path works in its own copy.
    models, fees
        ``FILL_MODEL`` (instruments,) and the venue's fees.
    threads
        Paths run on so many threads; the result does not depend on it.

    Raises
    ------
    InvalidArrayError, InvalidValueError
        Bad input, or an account that left the gate's range of money.
    """
    if not isinstance(bars, np.ndarray) or bars.dtype != BAR or bars.ndim != 2 or not bars.flags.c_contiguous:
        raise InvalidArrayError("bars", "not a contiguous BAR matrix (bars, instruments)", "use types.BAR")
    steps, instruments = bars.shape
    validate_bars(bars.reshape(-1))
    present = bars["ts_event_ns"] > 0
    if (bars["low"][present] < 1).any():
        raise InvalidValueError("bars", "a price below one tick", "the gate knows positive prices only")
    latest = np.maximum.accumulate(bars["ts_event_ns"], axis=0)
    if (bars["ts_event_ns"][1:][present[1:]] <= latest[:-1][present[1:]]).any():
        raise InvalidValueError("bars.ts_event_ns", "not ascending", "sort each instrument's bars by time")
    if not isinstance(targets, np.ndarray) or targets.dtype != np.int64 or targets.ndim != 3:
        raise InvalidArrayError("targets", "not int64 (paths, bars, instruments)", "use KEEP for no decision")
    if targets.shape[1:] != bars.shape or not targets.flags.c_contiguous:
        raise InvalidArrayError(
            "targets", f"shape {targets.shape}", f"give (paths, {steps}, {instruments}), contiguous"
        )
    bound = LOTS_MAX // 2 if sizing == Sizing.LOTS else 100 * _MILLION
    decisions = np.zeros(len(targets), np.int64)
    if not _survey(targets, bound, decisions):
        raise InvalidValueError("targets", f"beyond {bound}", "give lots, or ppm of equity up to 100 x")
    validate_models(models)
    if len(models) != instruments:
        raise InvalidArrayError("models", "not one for each instrument", f"give {instruments} rows")
    if threads < 1:
        raise InvalidValueError("threads", "not positive", "give at least one")

    cap = models["participation_cap_ppm"]
    caps = np.where(cap == UNCAPPED, UNBOUNDED, bars["volume"] * np.maximum(cap, 0) // _MILLION)
    clock = latest.max(axis=1)
    terms, start = fees.row(), gate.snapshot()
    paths = len(targets)
    equity = np.zeros((paths, steps), np.int64)
    positions = np.zeros((paths, instruments), np.int64)
    denials = np.zeros((paths, _REASONS), np.int64)

    def work(path: int) -> Records:
        block, state = layout.copy_of(start)
        if len(state.instruments) < instruments:
            raise InvalidArrayError("gate", f"{len(state.instruments)} instruments", f"set up {instruments}")
        # A decision leads to one order, and that to one fill at most.
        fills = np.zeros(int(decisions[path]), BACKTEST_FILL)
        count = run_path(
            int(block.ctypes.data),
            path,
            bars,
            clock,
            targets[path],
            int(sizing),
            models,
            caps,
            terms,
            equity[path],
            fills,
            denials[path],
        )
        if count < 0:
            raise InvalidValueError(
                f"targets[{path}]",
                f"bar {-1 - count}: an instrument is not set up, or the account left the gate's range",
                "see gate.layout.MONEY_MAX",
            )
        positions[path] = state.instruments["position"][:instruments]
        return fills[:count]

    if threads == 1:
        parts = [work(path) for path in range(paths)]
    else:
        with ThreadPoolExecutor(threads) as pool:
            parts = list(pool.map(work, range(paths)))
    # As bytes: joining records field by field would leave the padding to chance.
    raw = np.concatenate([np.zeros(0, np.uint8), *(part.view(np.uint8) for part in parts)])
    fills = raw.view(BACKTEST_FILL)
    return BacktestResult(equity=equity, fills=fills, positions=positions, denials=denials)


def open_gate(
    facts: list[InstrumentFacts], policy: Policy, *, cash: int, sectors: int = 64, recent: int | None = None
) -> Gate:
    """A gate for ``run``, as small as its instruments allow: ACTIVE, without positions.

    `recent` is how many orders the rate limits look back on; as many as there are instruments by
    default.
    """
    size = len(facts)
    gate = Gate(instruments=size, reservations=size, sectors=sectors, recent=recent or size)
    for index, fact in enumerate(facts):
        gate.set_instrument(index, fact)
    gate.set_policy(policy)
    gate.set_account(cash=cash, day_start_equity=cash, peak_equity=cash)
    gate.set_trading_state(TradingState.ACTIVE)
    return gate


def warm() -> None:
    """Compile the kernels for the production types."""
    bars = np.zeros((3, 1), BAR)
    bars[:, 0] = [(k, 10, 11, 9, 10, 100) for k in (1, 2, 3)]
    policy = Policy(version=1, ts_ns=0, max_age_ns=10, price_max_age_ns=10)
    gate = open_gate([InstrumentFacts(tick_value=1)], policy, cash=10_000)
    targets = np.array([[[1], [0], [KEEP]]])
    result: Any = run(bars, targets, gate=gate, models=fill_models(1), fees=FeeModel())
    assert result.positions[0, 0] == 0
