"""Fees by hand, and the rounding against exact fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from execution_core.errors import CoreError, InvalidArrayError, InvalidValueError
from execution_core.simulation.fees import CENT_NANO, FeeModel, fee_nano, fees_nano, notional_nano
from execution_core.types import NANO, LiquidityFlag

MAKER, TAKER, AUCTION = LiquidityFlag.MAKER, LiquidityFlag.TAKER, LiquidityFlag.AUCTION


def test_per_share_with_minimum_rounded_up_to_the_cent() -> None:
    # 0.0035 a share, 0.35 at least: 100 -> 0.35; 123 -> 0.4305 -> 0.44; 10 -> 0.35.
    model = FeeModel(per_lot_nano=3_500_000, minimum_nano=350_000_000)
    fees = fees_nano([100, 123, 10], [0, 0, 0], TAKER, model)
    assert (fees / CENT_NANO).tolist() == [35, 44, 35]


def test_maker_and_taker_rates() -> None:
    # Binance USD-M, regular user: 2 bp maker, 5 bp taker, on 60_000.
    model = FeeModel(maker_rate_e8=20_000, taker_rate_e8=50_000, rounding_nano=1)
    fees = fees_nano([1, 1, 1], 60_000 * NANO, [MAKER, TAKER, AUCTION], model)
    assert fees.tolist() == [12 * NANO, 30 * NANO, 30 * NANO]


def test_a_rebate_is_rounded_towards_nothing() -> None:
    model = FeeModel(maker_rate_e8=-20_000)
    assert fees_nano(1, 1_234 * NANO, MAKER, model) == -24 * CENT_NANO  # -0.2468


def test_rounding_equals_exact_fractions() -> None:
    generator = np.random.default_rng(5)
    notionals = generator.integers(0, 2**61, 500)
    lots = generator.integers(0, 10_000, 500)
    for rate in (-7_777, 1, 13, 9_999_991):
        model = FeeModel(taker_rate_e8=rate, per_lot_nano=17, rounding_nano=1_000)
        fees = fees_nano(lots, notionals, TAKER, model)
        for size, notional, fee in zip(lots.tolist(), notionals.tolist(), fees.tolist(), strict=True):
            exact = math.ceil(Fraction(notional * rate, 10**8)) + 17 * size
            assert fee == math.ceil(Fraction(exact, 1_000)) * 1_000


def test_notional() -> None:
    # 101.25 in ticks of 0.05, 30 shares: a tick is worth 0.05.
    assert notional_nano(2025, 30, 50_000_000) == 3_037_500_000_000
    assert notional_nano([-2025, 1], [30, 2], 50_000_000).tolist() == [3_037_500_000_000, 100_000_000]


def test_bad_input_is_refused() -> None:
    for call in (
        lambda: FeeModel(minimum_nano=-1),
        lambda: FeeModel(rounding_nano=0),
        lambda: FeeModel(taker_rate_e8=10**9),
        lambda: fees_nano(-1, 0, TAKER, FeeModel()),
        lambda: fees_nano(1, 2**62, TAKER, FeeModel()),
        lambda: fees_nano(1, 1, 3, FeeModel()),
        lambda: fees_nano(2**61, 1, TAKER, FeeModel(per_lot_nano=10)),
        lambda: notional_nano(10**10, 10**9, 1),
        lambda: notional_nano(1, -1, 1),
    ):
        with pytest.raises(InvalidValueError):
            call()
    with pytest.raises(InvalidArrayError):
        fees_nano(1.5, 1, TAKER, FeeModel())
    assert issubclass(InvalidArrayError, CoreError)


def test_the_kernel_charges_the_same() -> None:
    generator = np.random.default_rng(6)
    model = FeeModel(
        maker_rate_e8=-1_234, taker_rate_e8=56_789, per_lot_nano=77, minimum_nano=10**8, rounding_nano=10**6
    )
    for liquidity in LiquidityFlag:
        lots, notionals = generator.integers(0, 10_000, 200), generator.integers(0, 2**60, 200)
        expected = fees_nano(lots, notionals, liquidity, model).tolist()
        pairs = zip(lots.tolist(), notionals.tolist(), strict=True)
        assert [fee_nano(size, notional, int(liquidity), model.row()) for size, notional in pairs] == expected
