"""Portfolios with shared cash over the same bars and targets in vectorbt; see ../bar_backtest.py.

Answers client.py's task "portfolios": open, close (bars, instruments), size (bars, paths x instruments;
NaN for no order, already moved to the bar that it trades in), and paths, cash, fees, slippage. The
answer is equity (bars, paths) and the number of orders.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import json
import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt


def run(data):
    """Seconds and answer of one run over the frames in `data`."""
    started = time.perf_counter()
    portfolio = vbt.Portfolio.from_orders(
        data["close"],
        size=data["size"],
        size_type="targetamount",
        price=data["open"],
        fees=float(data["fees"]),
        slippage=float(data["slippage"]),
        init_cash=float(data["cash"]),
        cash_sharing=True,
        group_by="path",
        freq="1D",
    )
    value = portfolio.value()
    seconds = time.perf_counter() - started
    return seconds, {"equity": np.asarray(value), "orders": np.array(len(portfolio.orders.records))}


def frames(arrays):
    """The arrays as vectorbt takes them: one column for each path and instrument."""
    data = dict(arrays)
    paths, instruments = int(data["paths"]), data["close"].shape[1]
    columns = pd.MultiIndex.from_product([range(paths), range(instruments)], names=["path", "instrument"])
    for name in ("open", "close"):
        data[name] = pd.DataFrame(np.tile(data[name], (1, paths)), columns=columns)
    data["size"] = pd.DataFrame(data["size"], columns=columns)
    return data


def main():
    data = None
    for line in sys.stdin:
        request = json.loads(line)
        if data is None:
            with np.load(request["data"]) as arrays:
                data = frames(arrays)
        seconds, answer = run(data)
        np.savez(request["out"], **answer)
        print(json.dumps({"seconds": seconds, "peer": f"vectorbt {vbt.__version__}"}), flush=True)


main()
