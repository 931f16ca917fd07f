"""Who earned what: by hand, and to the billionth whatever happens."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from mesh import attribution
from python_services.kit.convert import NANO, money

INSTRUMENTS = {
    name: marketdata_pb2.Instrument(instrument_id=name, currency_code="USD", multiplier_e9=NANO) for name in ("A", "B")
}


def decision(number: int, contributions: dict[str, list[float]]) -> decision_pb2.Decision:
    """Contributions to the combined return, by instrument, of agents a0, a1, ..."""
    made = decision_pb2.Decision(decision_id=f"d{number}", snapshot_id=f"s{number}", instrument_ids=["A", "B"])
    agents = [f"a{n}" for n in range(max(map(len, contributions.values()), default=0))]
    for agent in agents:
        made.voices.add(agent_id=agent, version="1", weight=1.0)
    if contributions:
        made.aggregate.agent_id.extend(agents)
    for name, shares in contributions.items():
        made.aggregate.instrument_index.append("AB".index(name))
        made.aggregate.contribution.extend(shares)
    return made


def fill(number: int, name: str, quantity: int, price: float, fee: float = 0.0) -> order_pb2.Fill:
    return order_pb2.Fill(
        decision_id=f"d{number}", instrument_id=name, quantity_e9=abs(quantity) * NANO,
        side=trading_pb2.SIDE_BUY if quantity > 0 else trading_pb2.SIDE_SELL, price_e9=round(price * NANO),
        fee=money(round(fee * NANO), "USD"),
    )  # fmt: skip


def valued(number: int, **marks: float) -> events_pb2.AccountValued:
    return events_pb2.AccountValued(
        snapshot_id=f"s{number}", instrument_ids=list(marks), mark_e9=[round(mark * NANO) for mark in marks.values()]
    )


def run(decisions: list, facts: list, pnl: float = 0.0, traded: float = 0.0) -> tuple[dict, dict]:
    ledger = list(enumerate(facts))
    built = attribution.build(decisions, ledger, INSTRUMENTS, "USD", round(pnl * NANO), round(traded * NANO))
    return {row["agent_id"]: row for row in built["by_agent"]}, built["unattributed"]


def test_profit_is_shared_by_contribution_and_who_was_against_it_pays() -> None:
    decisions = [decision(1, {"A": [0.03, -0.01]}), decision(2, {"A": [0.01, 0.03]}), decision(3, {})]
    facts = [
        valued(1, A=100), fill(1, "A", 10, 101, fee=2), valued(2, A=103),  # 10 x (103 - 101) - 2 = 18 under decision 1
        valued(3, A=107),  # 40 under decision 2
        valued(4, A=106),  # decision 3 had no view: -10 under decision 2
    ]  # fmt: skip
    rows, rest = run(decisions, facts, pnl=48, traded=1010)
    assert Decimal(rows["a0"]["pnl"]) == Decimal(27) + Decimal("7.5")  # 18 x 3/2 + 30 / 4
    assert Decimal(rows["a1"]["pnl"]) == Decimal(-9) + Decimal("22.5")
    assert Decimal(rest["pnl"]) == 0
    assert (rows["a0"]["traded_notional"], rows["a1"]["traded_notional"]) == ("757.5", "252.5")
    assert rest["traded_notional"] == "0"


def test_a_position_against_the_view_is_nobodys() -> None:
    decisions = [decision(1, {"A": [0.02]}), decision(2, {"A": [-0.02]})]
    facts = [valued(1, A=100), fill(1, "A", 10, 100), valued(2, A=101), valued(3, A=105)]
    rows, rest = run(decisions, facts, pnl=50)
    assert (rows["a0"]["pnl"], rest["pnl"]) == ("10", "40")


def test_agents_who_cancel_out_have_bounded_shares() -> None:
    decisions = [decision(1, {"A": [0.0100, -0.0099]})]
    rows, rest = run(decisions, [valued(1, A=100), fill(1, "A", 1, 100), valued(2, A=200)], pnl=100)
    assert Decimal(rows["a0"]["pnl"]) == pytest.approx(Decimal(201), rel=Decimal("0.01"))
    assert sum(Decimal(row["pnl"]) for row in rows.values()) + Decimal(rest["pnl"]) == 100


def test_splits_dividends_and_new_names_lose_nothing() -> None:
    split = events_pb2.CorporateActionApplied(
        action=execution_pb2.CorporateAction(instrument_id="A"), new_quantity_e9=20 * NANO, cash=money(3 * NANO, "USD")
    )
    renamed = events_pb2.CorporateActionApplied(
        action=execution_pb2.CorporateAction(
            instrument_id="A", symbol_change=execution_pb2.SymbolChange(new_instrument_id="B")
        ),
        new_quantity_e9=20 * NANO,
    )
    decisions = [decision(n, {"A": [0.02], "B": [0.02]}) for n in (1, 2, 3)]
    facts = [
        valued(1, A=100), fill(1, "A", 10, 100), valued(2, A=100), split, valued(3, A=51), renamed, valued(4, B=52),
    ]  # fmt: skip
    rows, rest = run(decisions, facts, pnl=20 * 52 + 3 - 1000)
    assert (rows["a0"]["pnl"], rest["pnl"]) == ("43", "0")


def test_foresight_counts_each_forecast_once() -> None:
    made = decision(1, {"A": [0.01]})
    for hits in (1, 0):
        made.scores.add(
            agent_id="a0", version="1", forecasts=2, sum_xy=1.0, sum_xx=4.0, sum_yy=1.0, sum_brier=0.5,
            sum_absolute_error=0.04, stated=[0, 2], hits=[0, hits], sum_p=[0.0, 1.3],
        )  # fmt: skip
    rows, _ = run([made], [])
    row = rows["a0"]
    assert (row["forecasts_scored"], row["hit_rate"], row["brier"]) == (4, 0.25, 0.25)
    assert row["information_coefficient"] == pytest.approx(2 / (8 * 2) ** 0.5)
    assert row["mean_absolute_error"] == pytest.approx(0.02)
    assert row["calibration"][0]["observed"] == 0.25
    assert row["calibration"][0]["stated"] == pytest.approx(0.65)


STEPS = st.lists(
    st.tuples(
        st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3), st.integers(-9, 9), st.floats(1, 500),
        st.floats(1, 500),
    ),
    min_size=1,
    max_size=12,
)  # fmt: skip


@settings(deadline=None)
@given(STEPS)
def test_all_rows_together_are_the_profit_to_the_billionth(steps: list) -> None:
    """The profit is computed here from cash and holdings; unattributed is then bounded by what nobody can own."""
    decisions, facts, cash, held, against = [], [valued(0, A=100)], 0, 0, False
    mark = 100 * NANO
    for number, (contributions, quantity, price, close) in enumerate(steps):
        decisions.append(decision(number, {"A": contributions}))
        if quantity:
            facts.append(fill(number, "A", quantity, price, fee=0.5))
            cash -= quantity * round(price * NANO) + NANO // 2
        before, held = held, held + quantity
        side = (held > 0) - (held < 0) or (before > 0) - (before < 0)
        total = sum(contributions)
        against |= side * total <= 0 or abs(total) < 0.26 * sum(map(abs, contributions))
        facts.append(valued(number + 1, A=close))
        mark = round(close * NANO)
    pnl = cash + held * mark
    built = attribution.build(decisions, list(enumerate(facts)), INSTRUMENTS, "USD", pnl, 0)
    parts = [round(Decimal(row["pnl"]) * NANO) for row in built["by_agent"]]
    rest = round(Decimal(built["unattributed"]["pnl"]) * NANO)
    assert sum(parts) + rest == pnl
    if not against:
        assert abs(rest) <= NANO * len(steps) * 1e-3, "rounding of shares only"
