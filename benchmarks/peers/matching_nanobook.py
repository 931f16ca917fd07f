"""The benchmark flow of ../matching.py through nanobook (Rust); runs in its own environment.

Usage: python matching_nanobook.py FLOW calls|replay; prints {"ns": CPU nanoseconds a command, "trades":
digest}. `calls` sends one command at a time from Python; `replay` lets Rust run the recorded commands
in one call, its nearest thing to a batch.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import hashlib
import json
import sys
import time
from array import array

from matching_flow import load
from nanobook import Exchange

NEW = 1


def send(exchange, rows):
    ids = {}
    results = []
    for number, (kind, side, price, quantity, immediate, target) in enumerate(rows):
        if kind == NEW:
            result = exchange.submit_limit(
                "buy" if side == 1 else "sell", price, quantity, "ioc" if immediate else "gtc"
            )
            ids[number] = result.order_id
        else:
            result = exchange.cancel(ids[target])
        results.append(result)


def main():
    rows = load(sys.argv[1])
    exchange = Exchange()
    started = time.process_time_ns()
    send(exchange, rows)
    elapsed = time.process_time_ns() - started
    if sys.argv[2] == "replay":
        recorded = exchange.events()
        started = time.process_time_ns()
        exchange = Exchange.replay(recorded)
        elapsed = time.process_time_ns() - started
    trades = array("q", [value for trade in exchange.trades() for value in (trade.price, trade.quantity)])
    digest = hashlib.sha256(trades.tobytes()).hexdigest()
    print(json.dumps({"ns": elapsed / len(rows), "trades": digest}))


main()
