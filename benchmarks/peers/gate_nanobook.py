"""Pre-trade checks in nanobook (Rust); runs in its own environment, see ../gate.py.

Reads one JSON object: orders as [symbol, side, quantity, price in cents], the lots held of each symbol, and the
limits. Prints {"ns": nanoseconds an order, "passed": for each order, whether no check of it failed}.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import json
import sys
import time

from nanobook import RiskEngine


def main():
    request = json.load(sys.stdin)
    positions = [(f"S{symbol}", lots) for symbol, lots in enumerate(request["held"])]
    engine = RiskEngine(
        max_position_pct=request["position_pct"],
        max_leverage=1e6,
        max_drawdown_pct=1.0,
        allow_short=False,
        max_trade_usd=1e9,
        max_order_value_cents=request["order_value_cents"],
    )
    calls = [
        (f"S{symbol}", "buy" if side == 1 else "sell", quantity, price, request["equity_cents"], positions)
        for symbol, side, quantity, price in request["orders"]
    ]
    check = engine.check_order
    started = time.perf_counter_ns()
    answers = [check(*call) for call in calls]
    elapsed = time.perf_counter_ns() - started
    passed = [all(rule["status"] != "FAIL" for rule in answer) for answer in answers]
    print(json.dumps({"ns": elapsed / len(calls), "passed": passed}))


main()
