"""The obvious twin of execution_core.simulation.backtest: one account, through the public gate and venue."""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.gate.gate import Gate, Mode
from execution_core.simulation.backtest import KEEP, Sizing
from execution_core.simulation.bars import match_bars
from execution_core.simulation.fees import FeeModel, fees_nano, notional_nano
from execution_core.types import (
    GATE_ORDER,
    RESTING_ORDER,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    VenueEventKind,
)

DAY_NS = 86_400 * 10**9


def run_slowly(
    bars: Any, targets: Any, gate: Gate, tick_values: list[int], models: Any, fees: FeeModel, sizing: Sizing
) -> tuple[list[int], list[tuple[int, ...]], list[int]]:
    """Equity after each bar, the fills, and denials by reason of one path. Changes `gate`."""
    resting = np.zeros(0, RESTING_ORDER)
    handles: list[int] = []
    equity: list[int] = []
    fills: list[tuple[int, ...]] = []
    denials = [0] * 64
    day = 0
    peak = gate.equity
    day_start = gate.equity
    for row, wanted in zip(bars, targets, strict=True):
        events = match_bars(resting, row.copy(), models)
        for event in events:
            i, lots, price = int(event["instrument"]), int(event["lots"]), int(event["price"])
            if event["kind"] == VenueEventKind.FILL:
                notional = notional_nano(price, lots, tick_values[i])
                fee = int(fees_nano(lots, notional, int(event["liquidity"]), fees))
                side = Side(int(event["side"]))
                gate.fill(handles[event["row"]], instrument=i, side=side, lots=lots, price=price, fee=fee)
                fills.append((int(event["ts_event_ns"]), price, lots, fee, i, side))
            else:
                gate.release(handles[event["row"]], lots)
        open_rows = np.flatnonzero(resting["leaves"] > 0)
        resting, handles = resting[open_rows].copy(), [handles[k] for k in open_rows]

        seen = [int(bar["ts_event_ns"]) for bar in row if bar["ts_event_ns"]]
        now = max([*seen, day])
        for i, bar in enumerate(row):
            if bar["ts_event_ns"]:
                gate.set_price(i, int(bar["close"]), int(bar["ts_event_ns"]))
        if equity and now // DAY_NS != day // DAY_NS:
            day_start = equity[-1]
        day = now
        equity.append(gate.equity)
        peak = max(peak, gate.equity)
        gate.set_account(cash=gate.cash, day_start_equity=day_start, peak_equity=peak)

        changes = []
        for i, target in enumerate(wanted.tolist()):
            if target == KEEP or not row["ts_event_ns"][i] or i in resting["instrument"].tolist():
                continue
            lots = target
            if sizing == Sizing.EQUITY_PPM:
                size = max(gate.equity, 0) * abs(target) // 10**6 // (int(row["close"][i]) * tick_values[i])
                lots = size if target > 0 else -size
            change = lots - gate.position(i)
            if change:
                held = gate.position(i)
                grows = not (held and (change > 0) == (held < 0))
                changes.append((grows, i, change))
        requests = np.zeros(len(changes), GATE_ORDER)
        for request, (_, i, change) in zip(requests, sorted(changes), strict=True):
            request["lots"], request["instrument"] = abs(change), i
            request["side"] = Side.BUY if change > 0 else Side.SELL
            request["type"], request["time_in_force"] = OrderType.MARKET, TimeInForce.DAY
        for verdict, request in zip(gate.check(requests, now, mode=Mode.FIT), requests, strict=True):
            if verdict["mask"]:
                denials[verdict["reason"]] += 1
            if verdict["lots"]:
                order = np.zeros(1, RESTING_ORDER)
                order["type"], order["tif"] = OrderType.MARKET, TimeInForce.DAY
                order["side"], order["instrument"] = request["side"], request["instrument"]
                order["leaves"], order["state"] = verdict["lots"], OrderState.ACCEPTED
                resting = np.concatenate([resting, order])
                handles.append(int(verdict["reservation"]))
    return equity, fills, denials
