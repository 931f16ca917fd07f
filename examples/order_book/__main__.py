"""Replay six minutes of BTCUSDT: a market maker under three queue models, and five ways to buy 2 BTC.

python -m examples.order_book                  the tables
python -m examples.order_book --plots DIR      and the pictures of docs/order_book.md
python -m examples.order_book --json           the tables for a machine
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from execution_core.algorithms.tca import analyse, volume_weighted_price
from execution_core.simulation.fees import FeeModel, fees_nano, notional_nano
from execution_core.simulation.l2 import L2Model, QueueModel, constant_latency, open_venue, prepare
from execution_core.types import TCA_ORDER, FeedKind, LiquidityFlag, Side

from .recording import load
from .strategies import SECOND, Execution, Records, make_market, schedules, work_parent

WINDOW = 580_000, 650_000  # ticks of 0.1 USDT
TICK_VALUE_NANO = 100_000  # 0.1 USDT x 0.001 BTC
LATENCY = constant_latency(2_000_000, 1_000_000)
# USD-M futures, regular user: maker 0.02%, taker 0.05% (Binance fee schedule, 2024).
FEES = FeeModel(maker_rate_e8=20_000, taker_rate_e8=50_000, rounding_nano=1)
PARENT_LOTS = 2_000
QUEUES = (QueueModel.RISK_AVERSE, QueueModel.POWER, QueueModel.LOG)

Row = dict[str, Any]


def feed() -> Records:
    """The recording's rows inside the window."""
    rows = load()
    inside = (rows["price"] >= WINDOW[0]) & (rows["price"] <= WINDOW[1])
    return rows[inside | (rows["kind"] != FeedKind.DEPTH)]


def market_making(rows: Records) -> tuple[list[Row], dict[str, Any]]:
    """One row per queue model, and what the first model's run looked like."""
    tape, table, pictured = prepare(rows, window=WINDOW), [], {}
    for queue in QUEUES:
        venue = open_venue(tape, L2Model(queue=queue), LATENCY)
        seen, ahead = np.zeros((5_000, 4), np.int64), np.zeros(5_000)
        steps = make_market(venue, seen, ahead)
        done = venue.fills[: int(venue.state[0]["fills"])]
        signed = np.where(done["side"] == Side.BUY, done["lots"], -done["lots"])
        value = notional_nano(done["price"], done["lots"], TICK_VALUE_NANO)
        fees = fees_nano(done["lots"], value, done["liquidity"], FEES)
        middle = (seen[steps - 1, 1] + seen[steps - 1, 2]) / 2
        gross = (float(signed.sum()) * middle - float((signed * done["price"]).sum())) * TICK_VALUE_NANO / 1e9
        table.append(
            {
                "queue model": queue.name,
                "fills": len(done),
                "lots": int(done["lots"].sum()),
                "maker share": float((done["liquidity"] == LiquidityFlag.MAKER).mean()) if len(done) else None,
                "median lots ahead": float(np.nanmedian(ahead[:steps])),
                "final position": int(signed.sum()),
                "P&L before fees, USDT": round(gross, 2),
                "fees, USDT": round(float(fees.sum()) / 1e9, 2),
            }
        )
        if not pictured:
            pictured = {"seen": seen[:steps], "ahead": ahead[:steps], "fills": done.copy()}
    return table, pictured


def executions(rows: Records) -> tuple[list[Row], list[Execution]]:
    """One row per algorithm: 2 BTC bought over four minutes from one minute in."""
    start = int(rows["ts_event_ns"][0]) + 60 * SECOND
    end = start + 240 * SECOND
    trades = rows[(rows["kind"] == FeedKind.TRADE) & (rows["ts_event_ns"] >= start) & (rows["ts_event_ns"] < end)]
    market = volume_weighted_price(trades["price"].astype(np.int64), trades["lots"].astype(np.int64))
    table, done = [], []
    for name, (due, passive) in schedules(rows, PARENT_LOTS, start, end).items():
        venue = open_venue(prepare(rows, window=WINDOW), L2Model(queue=QueueModel.POWER), LATENCY)
        execution = work_parent(venue, name, start, end, due, passive=passive)
        order = np.zeros(1, TCA_ORDER)
        order["lots"], order["side"], order["tick_value_nano"] = PARENT_LOTS, Side.BUY, TICK_VALUE_NANO
        order["decision"] = order["arrival"] = round(execution.arrival)
        order["end"], order["market_vwap"] = round(execution.end_price), round(market)
        fills = execution.fills
        value = notional_nano(fills["price"], fills["lots"], TICK_VALUE_NANO)
        fees = fees_nano(fills["lots"], value, fills["liquidity"], FEES)
        owner = np.zeros(len(fills), np.int64)
        report = analyse(order, owner, fills["price"].astype(np.int64), fills["lots"].astype(np.int64), fees)[0]
        table.append(
            {
                "algorithm": name,
                "children": len(execution.sent),
                "fills": len(fills),
                "filled": f"{int(report['filled_lots']) / PARENT_LOTS:.0%}",
                "average price": round(float(report["average_price"]) / 10, 2),
                "to arrival, bps": round(float(report["arrival_bps"]), 2),
                "to VWAP, bps": round(float(report["market_vwap_bps"]), 2),
                "execution, USDT": round(int(report["execution_nano"]) / 1e9, 2),
                "opportunity, USDT": round(int(report["opportunity_nano"]) / 1e9, 2),
                "fees, USDT": round(int(report["fees_nano"]) / 1e9, 2),
            }
        )
        done.append(execution)
    return table, done


def show(console: Console, title: str, rows: list[Row]) -> None:
    """Prints a table; numbers are right-aligned."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="left" if isinstance(rows[0][name], str) else "right")
    for row in rows:
        cells = ("-" if v is None else f"{v:,.2f}" if isinstance(v, float) else str(v) for v in row.values())
        table.add_row(*cells)
    console.print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plots", type=Path, metavar="DIR", help="write the pictures of docs/order_book.md here")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    arguments = parser.parse_args()
    rows = feed()
    making, pictured = market_making(rows)
    buying, done = executions(rows)
    if arguments.json:
        print(json.dumps({"market_making": making, "executions": buying}, indent=2))
    else:
        console = Console(width=160 if not sys.stdout.isatty() else None)
        show(console, f"Market making on {len(rows):,} feed rows of BTCUSDT, 0.01 BTC a quote", making)
        show(console, "Buying 2 BTC in four minutes", buying)
    if arguments.plots:
        from .plots import draw

        for path in draw(arguments.plots, pictured, done):
            print(path, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
