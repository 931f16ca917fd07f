"""Market making over a feed in hftbacktest; runs in its own environment, see ../l2_replay.py.

Answers client.py. Tasks: "risk_averse" and "power", over the feed and window given; the answer is the
fills as int64 (n, 4): order, side, tick, venue time. Prices are given in ticks and sizes in lots, so
that its floats hold them exactly.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import json
import sys
import time

import numpy as np
from hftbacktest import (
    BUY,
    BUY_EVENT,
    DEPTH_CLEAR_EVENT,
    DEPTH_EVENT,
    FILLED,
    GTX,
    LIMIT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.data.validation import correct_event_order, validate_event_order
from hftbacktest.types import event_dtype
from numba import njit

STEP_NS, SIZE, LIMIT_LOTS = 100_000_000, 10, 100
ENTRY_NS, RESPONSE_NS = 2_000_000, 1_000_000


@njit
def make_market(hbt, fills):
    """The strategy of ../l2_replay.py; returns how many fills were heard of."""
    count = 0
    number = 0
    while hbt.elapse(STEP_NS) == 0:
        orders = hbt.orders(0).values()
        while orders.has_next():
            order = orders.get()
            if order.status == FILLED:
                fills[count, 0] = order.order_id
                fills[count, 1] = 1 if order.side == BUY else 2
                fills[count, 2] = order.exec_price_tick
                fills[count, 3] = order.exch_timestamp
                count += 1
        hbt.clear_inactive_orders(0)
        depth = hbt.depth(0)
        bid, ask = depth.best_bid_tick, depth.best_ask_tick
        held = hbt.position(0)
        buying = selling = False
        stale_buy = stale_sell = 0
        orders = hbt.orders(0).values()
        while orders.has_next():
            order = orders.get()
            if order.side == BUY:
                buying = True
                if order.cancellable and order.price_tick != bid:
                    stale_buy = order.order_id
            else:
                selling = True
                if order.cancellable and order.price_tick != ask:
                    stale_sell = order.order_id
        if stale_buy:
            hbt.cancel(0, stale_buy, False)
        if stale_sell:
            hbt.cancel(0, stale_sell, False)
        if not buying and held < LIMIT_LOTS and bid > 0:
            number += 1
            hbt.submit_buy_order(0, number, bid, SIZE, GTX, LIMIT, False)
        if not selling and held > -LIMIT_LOTS and ask < 2**40:
            number += 1
            hbt.submit_sell_order(0, number, ask, SIZE, GTX, LIMIT, False)
    return count


def events(feed):
    """The feed as hftbacktest's events, in both orders of time."""
    kinds = np.zeros(5, np.uint64)
    kinds[[1, 2, 4]] = DEPTH_EVENT, TRADE_EVENT, DEPTH_CLEAR_EVENT
    rows = np.zeros(len(feed), event_dtype)
    rows["ev"] = kinds[feed["kind"]] | np.where(feed["side"] == 1, BUY_EVENT, SELL_EVENT).astype(np.uint64)
    rows["exch_ts"], rows["local_ts"] = feed["ts_event_ns"], feed["ts_init_ns"]
    rows["px"], rows["qty"] = feed["price"], feed["lots"]
    by_exchange = np.argsort(rows["exch_ts"], kind="mergesort")
    by_local = np.argsort(rows["local_ts"], kind="mergesort")
    ordered = correct_event_order(rows, by_exchange, by_local)
    validate_event_order(ordered)
    return ordered


def run(task, data, window):
    """Seconds and fills of one run."""
    asset = BacktestAsset().data([data]).linear_asset(1.0).constant_order_latency(ENTRY_NS, RESPONSE_NS)
    asset = asset.power_prob_queue_model(3.0) if task == "power" else asset.risk_adverse_queue_model()
    asset = asset.no_partial_fill_exchange().trading_value_fee_model(0.0, 0.0)
    asset = asset.tick_size(1.0).lot_size(1.0).last_trades_capacity(0)
    hbt = ROIVectorMarketDepthBacktest([asset.roi_lb(float(window[0])).roi_ub(float(window[1]))])
    fills = np.zeros((100_000, 4), np.int64)
    started = time.perf_counter()
    count = make_market(hbt, fills)
    seconds = time.perf_counter() - started
    hbt.close()
    return seconds, fills[:count]


def main():
    given = {}
    for line in sys.stdin:
        request = json.loads(line)
        task = request["task"]
        if task not in given:
            with np.load(request["data"]) as arrays:
                given[task] = events(arrays["feed"]), arrays["window"]
        seconds, fills = run(task, *given[task])
        np.savez(request["out"], fills=fills)
        print(json.dumps({"seconds": seconds, "peer": "hftbacktest 2.4.4 ROIVector"}), flush=True)


main()
