"""Rounding to lots: worked cases, exact integers, and cash that never runs out."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.construction.rounding import Rounded, round_to_lots
from execution_core.errors import InfeasibleError, InvalidArrayError, InvalidValueError

UNIT = 1_000_000_000


def lots(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def test_worked_example() -> None:
    """1,000 in three assets at 30, 70 and 110: ideals 16.67, 4.29, 1.82 lots.

    Cut: 16, 4, 1 = 870. The third gains most from a lot more (20 of the 130 left), then the first
    takes 30 of the last 20: no. Cash 20.
    """
    answer = round_to_lots(np.array([0.5, 0.3, 0.2]), 1000 * UNIT, lots(30, 70, 110) * UNIT)
    np.testing.assert_array_equal(answer.lots, [16, 4, 2])
    assert answer.cash == (1000 - 480 - 280 - 220) * UNIT


def test_a_holding_less_than_a_lot_from_its_ideal_is_not_traded() -> None:
    answer = round_to_lots(np.array([0.5, 0.5]), 1000 * UNIT, lots(30, 70) * UNIT, lots(17, 7))
    np.testing.assert_array_equal(answer.trades, [0, 0])
    assert answer.cash == 0


def test_small_trades_are_not_made_but_positions_are_closed() -> None:
    held = lots(10, 3, 0)
    equity = (10 * 20 + 3 * 20 + 240) * UNIT
    answer = round_to_lots(np.array([0.5, 0.0, 0.1]), equity, lots(20, 20, 20) * UNIT, held, min_trade=70 * UNIT)
    np.testing.assert_array_equal(answer.lots, [10, 0, 0])
    answer = round_to_lots(np.array([0.5, 0.0, 0.2]), equity, lots(20, 20, 20) * UNIT, held, min_trade=70 * UNIT)
    np.testing.assert_array_equal(answer.lots, [10, 0, 5])


def test_a_kept_holding_can_push_a_purchase_back() -> None:
    """Selling 2 lots is too small a trade, so the purchase must do with what cash there is."""
    equity = 1000 * UNIT
    answer = round_to_lots(np.array([0.48, 0.52]), equity, lots(10, 10) * UNIT, lots(50, 0), min_trade=30 * UNIT)
    np.testing.assert_array_equal(answer.lots, [50, 50])
    assert answer.cash == 0


def test_shorts_are_cut_towards_zero_and_bring_cash() -> None:
    answer = round_to_lots(np.array([0.5, -0.24]), 100 * UNIT, lots(10, 10) * UNIT)
    np.testing.assert_array_equal(answer.lots, [5, -2])
    assert answer.cash == 70 * UNIT
    answer = round_to_lots(np.array([0.5, -0.26]), 100 * UNIT, lots(10, 10) * UNIT)
    np.testing.assert_array_equal(answer.lots, [5, -3])


def test_fees_are_part_of_the_cash() -> None:
    free = round_to_lots(np.array([1.0]), 100 * UNIT, lots(10 * UNIT))
    taxed = round_to_lots(np.array([1.0]), 100 * UNIT, lots(10 * UNIT), fee_e9=1_000_000)
    assert (free.lots[0], free.cash) == (10, 0)
    assert (taxed.lots[0], taxed.cash) == (9, 10 * UNIT - 90_000_000)


def test_products_beyond_int64_are_exact() -> None:
    equity = 10**9 * UNIT * 1000
    value = 123_456_789_123_456_789
    answer = round_to_lots(np.array([0.7]), equity, lots(value))
    assert answer.cash + int(answer.lots[0]) * value == equity
    assert abs(answer.lots[0] * (value / equity) - 0.7) < value / equity


@pytest.mark.parametrize("seed", range(40))
def test_cash_is_never_exceeded_and_every_number_adds_up(seed: int) -> None:
    random = np.random.Generator(np.random.SFC64(seed))
    size = int(random.integers(1, 30))
    values = random.integers(1, 500, size) * UNIT
    held = random.integers(0, 20, size)
    equity = int(sum(int(a) * int(b) for a, b in zip(values, held, strict=True))) + int(random.integers(0, 9000)) * UNIT
    weights = random.dirichlet(np.ones(size)) * random.uniform(0.2, 1.0)
    fee = int(random.choice([0, 100_000, 5_000_000]))
    minimum = int(random.choice([0, 50 * UNIT, 400 * UNIT]))
    try:
        answer = round_to_lots(weights, equity, values, held, min_trade=minimum, fee_e9=fee)
    except InfeasibleError:
        pytest.fail("a long-only plan can always give up its purchases")
    check(answer, equity, values, held, minimum, fee, weights)


def check(
    answer: Rounded, equity: int, values: np.ndarray, held: np.ndarray, minimum: int, fee: int, weights: np.ndarray
) -> None:
    cash = equity
    for i in range(values.size):
        traded = abs(int(answer.trades[i])) * int(values[i])
        assert traded == 0 or traded >= minimum or answer.lots[i] == 0
        cash -= int(answer.lots[i]) * int(values[i]) + -(-traded * fee // UNIT)
    assert answer.cash == cash >= 0
    np.testing.assert_array_equal(answer.trades, answer.lots - held)
    assert (answer.lots >= 0).all()
    # Never more than one lot above both the ideal and what is held already.
    ideal = weights * equity / values
    assert (answer.lots <= np.maximum(np.ceil(ideal), held)).all()


def test_bad_arguments_are_refused() -> None:
    good = np.array([0.5]), 10 * UNIT, lots(UNIT)
    with pytest.raises(InvalidArrayError, match=r"^lot_values"):
        round_to_lots(good[0], good[1], np.array([1.5]))  # type: ignore[arg-type]
    with pytest.raises(InvalidArrayError, match=r"^held"):
        round_to_lots(*good, lots(1, 2))
    with pytest.raises(InvalidValueError, match=r"^lot_values"):
        round_to_lots(good[0], good[1], lots(0))
    with pytest.raises(InvalidValueError, match=r"^weights"):
        round_to_lots(np.array([np.nan]), good[1], good[2])
    with pytest.raises(InvalidValueError, match=r"^weights"):
        round_to_lots(np.array([1.0]), 2**63 - 1, lots(1))
    with pytest.raises(InvalidValueError, match=r"^fee_e9"):
        round_to_lots(*good, fee_e9=-1)
    with pytest.raises(InvalidArrayError, match=r"^weights"):
        round_to_lots(np.array([]), good[1], lots())
