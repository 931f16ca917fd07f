"""Corporate actions on positions and orders, in exact integers."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import money_pb2
from python_services.execution import corporate_actions
from python_services.execution.corporate_actions import Grid
from python_services.execution.positions import Position

E9 = 10**9
GRID = Grid(tick_e9=E9 // 100, lot_e9=E9, multiplier_e9=E9)


def split(new: int, old: int, price_e9: int = 10 * E9) -> execution_pb2.Split:
    return execution_pb2.Split(new_shares=new, old_shares=old, fraction_price_e9=price_e9)


def test_two_for_one_changes_no_value() -> None:
    after = corporate_actions.split(Position(100 * E9, 5_000 * E9), split(2, 1), GRID, 52 * E9)
    assert (after.quantity_e9, after.cost_e9, after.cash_e9, after.mark_e9) == (200 * E9, 5_000 * E9, 0, 26 * E9)
    assert after.realized_e9 == 0


def test_a_fraction_is_paid_in_cash_at_the_stated_price() -> None:
    """7 shares 3:2 are 10.5: ten shares, and half of one at 10."""
    after = corporate_actions.split(Position(7 * E9, 105 * E9), split(3, 2), GRID, None)
    assert (after.quantity_e9, after.cash_e9) == (10 * E9, 5 * E9)
    assert (after.cost_e9, after.realized_e9) == (100 * E9, 0)
    short = corporate_actions.split(Position(-7 * E9, -105 * E9), split(3, 2), GRID, None)
    assert (short.quantity_e9, short.cash_e9, short.cost_e9) == (-10 * E9, -5 * E9, -100 * E9)


def test_a_reverse_split_can_leave_nothing_but_cash() -> None:
    after = corporate_actions.split(Position(3 * E9, 6 * E9), split(1, 10, 20 * E9), GRID, 2 * E9)
    assert (after.quantity_e9, after.cost_e9, after.cash_e9, after.realized_e9) == (0, 0, 6 * E9, 0)


@given(
    quantity=st.integers(-(10**6), 10**6), cost=st.integers(1, 10**15), new=st.integers(1, 50), old=st.integers(1, 50),
    price=st.integers(1, 10**12),
)  # fmt: skip
def test_a_split_balances_and_loses_less_than_a_nano_unit(
    quantity: int, cost: int, new: int, old: int, price: int
) -> None:
    before = Position(quantity * E9, cost if quantity > 0 else -cost if quantity else 0)
    after = corporate_actions.split(before, split(new, old, price), GRID, None)
    # Debits equal credits: what left the cost and what was realised is the cash.
    assert after.cash_e9 + (after.cost_e9 - before.cost_e9) - after.realized_e9 == 0
    exact = Fraction(quantity * new, old)
    lots = abs(exact) // 1 * (1 if quantity >= 0 else -1)
    assert after.quantity_e9 == lots * E9
    assert abs((exact - lots) * price - after.cash_e9) < 1
    assert after.quantity_e9 * before.quantity_e9 >= 0
    assert after.quantity_e9 or not after.cost_e9


def test_a_dividend_is_paid_to_longs_and_by_shorts() -> None:
    terms = execution_pb2.CashDividend(per_share=money_pb2.Money(currency_code="USD", nanos=550_000_001))
    long = corporate_actions.dividend(Position(100 * E9, 1), terms, None)
    short = corporate_actions.dividend(Position(-100 * E9, -1), terms, None)
    assert long.cash_e9 == long.income_e9 == 55_000_000_100 == -short.cash_e9
    assert (long.quantity_e9, long.cost_e9) == (100 * E9, 1)


def order(quantity: int, filled: int, **fields: object) -> order_pb2.Order:
    spec = order_pb2.OrderSpec(client_order_id="o", instrument_id="IBM", quantity_e9=quantity * E9, **fields)  # type: ignore[arg-type]
    return order_pb2.Order(spec=spec, approved_quantity_e9=quantity * E9, cumulative_quantity_e9=filled * E9)


def test_what_is_left_of_an_order_is_sent_on_the_new_terms_or_not_at_all() -> None:
    action = execution_pb2.CorporateAction(action_id="s", instrument_id="IBM", split=split(2, 1))
    spec = corporate_actions.adjusted(order(100, 40, price_e9=90 * E9, trigger_price_e9=91 * E9), action, GRID)
    assert spec is not None
    assert (spec.client_order_id, spec.quantity_e9, spec.price_e9, spec.trigger_price_e9) == (
        "o~s", 120 * E9, 45 * E9, 45_500_000_000,
    )  # fmt: skip
    assert corporate_actions.adjusted(order(100, 0, price_e9=90_010_000_000), action, GRID) is None  # 45.005
    assert corporate_actions.adjusted(order(100, 100), action, GRID) is None
    reverse = execution_pb2.CorporateAction(action_id="r", instrument_id="IBM", split=split(1, 10))
    assert corporate_actions.adjusted(order(105, 0), reverse, GRID) is None  # 10.5 shares
    renamed = execution_pb2.CorporateAction(
        action_id="n", instrument_id="IBM", symbol_change=execution_pb2.SymbolChange(new_instrument_id="NEW")
    )
    spec = corporate_actions.adjusted(order(5, 2, price_e9=90 * E9), renamed, GRID)
    assert spec is not None
    assert (spec.instrument_id, spec.quantity_e9, spec.price_e9) == ("NEW", 3 * E9, 90 * E9)
