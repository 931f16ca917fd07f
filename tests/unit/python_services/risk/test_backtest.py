"""The backtest by hand: what positions made, and the tests over a few days."""

from __future__ import annotations

import math

import numpy as np
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import snapshots
from python_services.kit.snapshots import Snapshot
from python_services.risk.analysis import Method, Tail
from python_services.risk.backtest import Day, gain, results


def snapshot(times: list[int], close: list[list[float]], names: tuple[str, ...] = ("A", "B")) -> Snapshot:
    header = marketdata_pb2.SnapshotHeader(as_of_ns=times[-1], instrument_ids=names, bar_ts_ns=times)
    content = snapshots.in_memory(snapshots.seal(header, dict.fromkeys(snapshots.FLOAT_COLUMNS, np.array(close))))
    return snapshots.decode(header.snapshot_id, content)


def test_a_gain_is_of_the_weights_held_then() -> None:
    after = snapshot([10, 20, 30], [[90.0, 40.0], [100.0, 50.0], [110.0, 45.0]])
    assert gain(("A", "B"), np.array([0.5, 0.2]), 20, after) == pytest.approx(0.5 * 0.1 + 0.2 * -0.1)
    assert gain(("A",), np.array([0.5]), 10, after) == pytest.approx(0.5 * (110 / 90 - 1))
    assert gain(("A",), np.array([-1.0]), 25, after) == pytest.approx(-0.1)


def test_a_gap_carries_the_last_close_and_a_missing_price_is_absent() -> None:
    after = snapshot([10, 20, 30], [[90.0, np.nan], [np.nan, 50.0], [99.0, np.nan]])
    assert gain(("A",), np.ones(1), 20, after) == pytest.approx(0.1)
    assert gain(("B",), np.ones(1), 20, after) == 0.0
    assert gain(("B",), np.ones(1), 10, after) is None
    assert gain(("C",), np.ones(1), 20, after) is None
    assert gain(("A",), np.ones(1), 5, after) is None


def test_exceptions_and_kupiecs_ratio_by_hand() -> None:
    tail = Tail(method=Method.PARAMETRIC, variant="normal", level=0.95, var=0.02, es=0.03)
    gains = [0.01, -0.03, 0.0, -0.02, -0.021, 0.0, 0.0, 0.0, 0.0, 0.0]  # a loss equal to the forecast is none
    days = [Day(forecast_ns=i, realized_ns=i + 1, gain=g, tails=(tail,)) for i, g in enumerate(gains)]
    (result,) = results(days)
    assert (result.exceptions, result.expected) == (2, pytest.approx(0.5))
    likelihood = 2 * math.log(0.2) + 8 * math.log(0.8) - 2 * math.log(0.05) - 8 * math.log(0.95)
    assert result.coverage is not None
    assert result.coverage.statistic == pytest.approx(2 * likelihood)
    assert result.coverage.p_value == pytest.approx(math.erfc(math.sqrt(likelihood)))
    # At most two of ten: 98.8% of the binomial, so in doubt.
    assert result.zone == 2
    assert result.forecasts.tolist() == [0.02] * 10


def test_no_days_no_tests() -> None:
    assert results([]) == []
    tail = Tail(method=Method.PARAMETRIC, variant="normal", level=0.95, var=0.02, es=0.03)
    (single,) = results([Day(forecast_ns=1, realized_ns=2, gain=0.0, tails=(tail,))])
    assert single.independence is None
    assert single.coverage is not None
