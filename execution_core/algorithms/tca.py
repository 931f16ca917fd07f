"""Transaction cost analysis: what an order cost against its benchmarks.

Implementation shortfall is the gap between the paper portfolio, which trades everything at the
decision price for nothing, and the real one (Perold, The Implementation Shortfall: Paper versus
Reality, Journal of Portfolio Management 14, 1988). It is split as in Kissell, The Expanded
Implementation Shortfall, Journal of Trading 1 (2006), with S ordered and s filled lots:

    delay        S (arrival - decision)                    waiting before the order reached the market
    execution    sum of fills (price - arrival)            trading
    opportunity  (S - s) (end - arrival)                   what was not traded
    fees

Costs are positive when they hurt (a buy above, a sell below the benchmark), and the four parts sum
to the total exactly, because everything is integer: ticks x lots x the tick's value in nano money.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.types import TCA_ORDER, TCA_REPORT, Side

Int64Array = NDArray[np.int64]

_LIMIT = 2.0**62


def _int64(field: str, values: Any, length: int) -> Int64Array:
    array = np.asarray(values)
    if array.dtype.kind not in "iu" or array.shape != (length,):
        raise InvalidArrayError(field, f"{array.dtype} {array.shape}", f"give {length} integers")
    return array.astype(np.int64)


def _refuse_overflow(field: str, *factors: Any) -> None:
    """A sum of products must stay clear of int64; floats are exact enough to see that."""
    product = np.ones(1)
    for factor in factors:
        product = product * np.abs(np.asarray(factor, np.float64))
    if float(product.sum()) >= _LIMIT:
        raise InvalidValueError(field, "money beyond 2**62 nano", "check ticks, lots and the tick's value")


def analyse(orders: NDArray[np.void], owner: Any, price: Any, lots: Any, fee_nano: Any) -> NDArray[np.void]:
    """Cost report of many parent orders from all their fills.

    Parameters
    ----------
    orders
        ``TCA_ORDER`` (n,).
    owner, price, lots, fee_nano
        int64 (fills,): row of `orders`, ticks, lots, nano money.

    Returns
    -------
    ``TCA_REPORT`` (n,). ``shortfall_nano = delay + execution + opportunity + fees``;
    ``*_bps`` are of the paper notional (decision price x ordered lots); ``vwap_*`` compares the
    average fill with the market's VWAP, over the filled lots; NaN where nothing was filled.

    Raises
    ------
    InvalidArrayError, InvalidValueError
        Also when fills exceed an order: an overfill is an alarm, never clamped.
    """
    if not isinstance(orders, np.ndarray) or orders.dtype != TCA_ORDER or orders.ndim != 1:
        raise InvalidArrayError("orders", "not a TCA_ORDER vector", "use types.TCA_ORDER")
    count = len(np.asarray(owner))
    rows, ticks = _int64("owner", owner, count), _int64("price", price, count)
    size, fee = _int64("lots", lots, count), _int64("fee_nano", fee_nano, count)
    if count and (rows.min() < 0 or rows.max() >= len(orders)):
        raise InvalidValueError("owner", "no such order", "give rows of `orders`")
    if (size <= 0).any():
        raise InvalidValueError("lots", "a fill without lots", "leave it out")
    if not np.isin(orders["side"], list(Side)).all():
        raise InvalidValueError("side", "unknown", "use Side")
    if (orders["lots"] <= 0).any() or (orders["tick_value_nano"] <= 0).any():
        raise InvalidValueError("orders", "no lots or no tick value", "give positive sizes")

    filled, fees = np.zeros(len(orders), np.int64), np.zeros(len(orders), np.int64)
    np.add.at(filled, rows, size)
    if (filled > orders["lots"]).any():
        raise InvalidValueError("lots", "fills exceed the order (overfill)", "reconcile with the venue first")
    value = orders["tick_value_nano"]
    _refuse_overflow("price", ticks, size, value[rows])
    for name in ("decision", "arrival", "end", "market_vwap"):
        _refuse_overflow(name, orders[name], orders["lots"], value)
    np.add.at(fees, rows, fee)
    paid = np.zeros(len(orders), np.int64)
    np.add.at(paid, rows, ticks * size)

    sign = np.where(orders["side"] == Side.BUY, 1, -1)
    unit = sign * value
    left = orders["lots"] - filled
    report = np.zeros(len(orders), TCA_REPORT)
    report["filled_lots"] = filled
    report["delay_nano"] = unit * orders["lots"] * (orders["arrival"] - orders["decision"])
    report["execution_nano"] = unit * (paid - filled * orders["arrival"])
    report["opportunity_nano"] = unit * left * (orders["end"] - orders["arrival"])
    report["fees_nano"] = fees
    report["vwap_nano"] = unit * (paid - filled * orders["market_vwap"])
    for name in ("delay", "execution", "opportunity", "fees"):
        report["shortfall_nano"] += report[f"{name}_nano"]

    with np.errstate(divide="ignore", invalid="ignore"):
        paper = np.abs(orders["decision"].astype(np.float64)) * orders["lots"] * value
        report["shortfall_bps"] = 1e4 * report["shortfall_nano"] / paper
        traded = filled > 0
        average = np.where(traded, paid / filled, np.nan)
        report["average_price"] = average
        for name in ("arrival", "market_vwap"):
            benchmark = orders[name].astype(np.float64)
            report[f"{name}_bps"] = np.where(traded, 1e4 * sign * (average - benchmark) / np.abs(benchmark), np.nan)
    return report


def volume_weighted_price(price: Any, lots: Any) -> float:
    """The market's VWAP in ticks over its trades; NaN without volume."""
    count = len(np.asarray(price))
    ticks, size = _int64("price", price, count), _int64("lots", lots, count)
    if (size < 0).any():
        raise InvalidValueError("lots", "negative", "give traded lots")
    _refuse_overflow("price", ticks, size)
    total = int(size.sum())
    return float((ticks * size).sum() / total) if total else float("nan")
