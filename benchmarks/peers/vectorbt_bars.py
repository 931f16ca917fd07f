"""Portfolios with shared cash over the same bars and targets in vectorbt; see ../bar_backtest.py.

Arguments: an .npz with open, close (bars, instruments), size (bars, paths x instruments; NaN for no
order, already moved to the bar that it trades in), paths, cash, fees, slippage. Each line of input
is the path of an .npy for the equity (bars, paths); the answer is {"seconds": s, "orders": n}.
"""

# The environment of this script is not the project's, so mypy cannot see what it imports.
# mypy: ignore-errors

import json
import sys
import time

import numpy as np
import pandas as pd
import vectorbt as vbt


def main():
    data = np.load(sys.argv[1])
    paths, instruments = int(data["paths"]), data["close"].shape[1]
    columns = pd.MultiIndex.from_product([range(paths), range(instruments)], names=["path", "instrument"])
    size = pd.DataFrame(data["size"], columns=columns)
    price = pd.DataFrame(np.tile(data["open"], (1, paths)), columns=columns)
    close = pd.DataFrame(np.tile(data["close"], (1, paths)), columns=columns)
    for line in sys.stdin:
        started = time.perf_counter()
        portfolio = vbt.Portfolio.from_orders(
            close,
            size=size,
            size_type="targetamount",
            price=price,
            fees=float(data["fees"]),
            slippage=float(data["slippage"]),
            init_cash=float(data["cash"]),
            cash_sharing=True,
            group_by="path",
            freq="1D",
        )
        value = portfolio.value()
        seconds = time.perf_counter() - started
        np.save(line.strip(), np.asarray(value))
        print(json.dumps({"seconds": seconds, "orders": len(portfolio.orders.records)}), flush=True)


main()
