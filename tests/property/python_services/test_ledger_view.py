"""Random fills: the view's cash and positions are those of the plainest bookkeeping."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from python_services.kit.ledger_view import Holding

trades = st.lists(st.tuples(st.integers(-1000, 1000).filter(bool), st.integers(1, 10**12)), max_size=40)


@given(trades)
def test_quantity_is_the_sum_and_cost_never_changes_sides(sequence: list[tuple[int, int]]) -> None:
    holding, quantity, cost = Holding(), 0, Fraction(0)
    for shares, price in sequence:
        before = quantity
        quantity += shares
        if before * shares >= 0:
            cost += shares * price
        elif quantity * before > 0:
            cost = cost * quantity / before
        else:
            cost = Fraction(quantity * price)
        holding.trade(shares, shares * price)
        assert holding.quantity_e9 == quantity
        assert abs(holding.cost_e9 - cost) <= len(sequence) * 1000
        assert holding.cost_e9 * quantity >= 0
        assert (quantity == 0) <= (holding.cost_e9 == 0)
