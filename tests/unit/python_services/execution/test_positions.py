"""Average-cost accounting, by hand and by conservation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from python_services.execution.positions import Position

E9 = 10**9


def test_buy_add_reduce_and_flip() -> None:
    position = Position()
    assert position.trade(100 * E9, 10_000 * E9) == 0
    assert position.trade(100 * E9, 12_000 * E9) == 0
    assert (position.quantity_e9, position.cost_e9) == (200 * E9, 22_000 * E9)
    # 50 of 200 at 130: 6,500 - 5,500.
    assert position.trade(-50 * E9, 6_500 * E9) == 1_000 * E9
    # 250 more at 100: closes 150 (cost 16,500) for 15,000, opens 100 short at 10,000.
    assert position.trade(-250 * E9, 25_000 * E9) == -1_500 * E9
    assert (position.quantity_e9, position.cost_e9) == (-100 * E9, -10_000 * E9)
    assert position.trade(100 * E9, 9_000 * E9) == 1_000 * E9
    assert position == Position()


@given(
    st.lists(
        st.tuples(st.integers(-500, 500).filter(bool), st.integers(1, 99_999)),
        min_size=1,
        max_size=40,
    )
)
def test_cash_cost_and_realised_always_balance(trades: list[tuple[int, int]]) -> None:
    """Cash paid out equals the cost still held minus what was realised, to the last nano unit."""
    position, cash, realised, quantity = Position(), 0, 0, 0
    for lots, cents in trades:
        notional = abs(lots) * cents * E9 // 100
        realised += position.trade(lots * E9, notional)
        cash -= notional if lots > 0 else -notional
        quantity += lots
        assert position.quantity_e9 == quantity * E9
        assert cash + position.cost_e9 == realised
        if quantity == 0:
            assert position.cost_e9 == 0
