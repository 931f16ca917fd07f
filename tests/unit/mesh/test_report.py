from pathlib import Path

import orjson
import pytest

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from alphamesh.risk.v1 import risk_pb2
from alphamesh.type.v1 import trading_pb2
from mesh import report
from mesh.session import Watched
from python_services.kit.convert import NANO, money

DOCUMENT = Path(__file__).parents[3] / "docs" / "report.md"


def usd(amount: float):
    return money(round(amount * NANO), "USD")


def usd_e9(amount: float) -> int:
    return round(amount * NANO)


def fill(side: int, quantity: int, price: float, fee: float) -> order_pb2.Fill:
    return order_pb2.Fill(
        instrument_id="AAPL",
        side=side,
        quantity_e9=quantity * NANO,
        price_e9=round(price * NANO),
        fee=usd(fee),
        ts_event_ns=1246478400 * NANO,
    )


@pytest.fixture
def facts() -> report.Facts:
    """Bought 10 at 100, sold 4 at 110, 6 left marked at 105: 40 + 30 - 2.5 of fees."""
    return report.Facts(
        decisions=[
            decision_pb2.Decision(
                outcome=decision_pb2.Decision.OUTCOME_TRADE,
                signals=[
                    decision_pb2.Signal(
                        agent_id="technical.trend",
                        agent_version="2",
                        instrument_index=[0, 1],
                        abstained=[decision_pb2.Abstained(reason="NO_SIGNAL", instrument_index=[2])],
                    )
                ],
                missing=[decision_pb2.MissingAgent(service="llm_agent", reason="deadline")],
            )
        ],
        orders=[
            order_pb2.Order(state=order_pb2.ORDER_STATE_FILLED),
            order_pb2.Order(
                state=order_pb2.ORDER_STATE_DENIED,
                denial_reasons=[order_pb2.DENIAL_REASON_POSITION_LIMIT, order_pb2.DENIAL_REASON_VAR_BUDGET],
            ),
        ],
        fills=[fill(trading_pb2.SIDE_BUY, 10, 100, 1.5), fill(trading_pb2.SIDE_SELL, 4, 110, 1.0)],
        actions=[],
        valuations=[],
        account=execution_pb2.Account(
            cash=usd(999_437.5),
            currencies=[execution_pb2.CurrencyBooks(cash=usd(999_437.5), funding=usd(1_000_000))],
            positions=[
                execution_pb2.Position(instrument_id="AAPL", quantity_e9=6 * NANO, cost=usd(600), mark_e9=105 * NANO)
            ],
        ),
        performance=portfolio_pb2.Performance(
            initial_equity=usd(1_000_000),
            equity=usd(1_000_067.5),
            pnl=usd(67.5),
            fees=usd(2.5),
            traded_notional=usd(1440),
            max_drawdown=0.01,
            valued_at_ns=[1246478400 * NANO],
            equity_e9=[1_000_067_500_000_000],
        ),
        findings=[marketdata_pb2.Finding(kind=marketdata_pb2.Finding.KIND_SPLIT)],
        instruments={
            "AAPL": marketdata_pb2.Instrument(instrument_id="AAPL", currency_code="USD", multiplier_e9=NANO),
            "SAP": marketdata_pb2.Instrument(instrument_id="SAP", currency_code="EUR", multiplier_e9=NANO),
            "EURUSD": marketdata_pb2.Instrument(
                instrument_id="EURUSD", currency_code="USD", base_currency_code="EUR", multiplier_e9=NANO
            ),
        },
        risk=risk_pb2.RiskReport(
            account_id="demo",
            as_of_ns=1246478400 * NANO,
            ledger_seq=9,
            equity=usd(1_000_067.5),
            gross_exposure=usd(630),
            net_exposure=usd(630),
            leverage=0.00063,
            positions=[
                risk_pb2.PositionRisk(
                    instrument_id="AAPL", quantity_e9=6 * NANO, mark_e9=105 * NANO, value=usd(630), weight=0.00063
                )
            ],
            tail_risks=[
                risk_pb2.TailRisk(
                    method=risk_pb2.TailRisk.METHOD_PARAMETRIC,
                    variant="normal",
                    level=0.99,
                    value_at_risk=0.01,
                    expected_shortfall=0.02,
                    marginal_value_at_risk=[15.0],
                    component_value_at_risk=[0.01],
                    component_expected_shortfall=[0.02],
                ),
                risk_pb2.TailRisk(method=risk_pb2.TailRisk.METHOD_HISTORICAL, level=0.99, absent_reason="too young"),
            ],
            stress_results=[
                risk_pb2.StressResult(
                    scenario="down",
                    kind=risk_pb2.StressResult.KIND_HYPOTHETICAL,
                    pnl=-0.1,
                    worst_instrument_id="AAPL",
                    worst_instrument_pnl=-0.1,
                ),
                risk_pb2.StressResult(scenario="lose", kind=risk_pb2.StressResult.KIND_REVERSE, pnl=-0.5, distance=9.0),
                risk_pb2.StressResult(
                    scenario="later", kind=risk_pb2.StressResult.KIND_HISTORICAL, absent_reason="the future"
                ),
            ],
            limit_uses=[risk_pb2.LimitUse(limit="var_bps", used_bps=100.0, limit_bps=500.0)],
            liquidity=risk_pb2.LiquidityRisk(level=0.99, value_at_risk=0.011, cost=0.001, liquidation_days=0.1),
            model=risk_pb2.TailModel(observations=125, decay=0.94, draws=1000, seed=7),
        ),
        backtest=risk_pb2.BacktestValueAtRiskResponse(
            results=[
                risk_pb2.BacktestResult(
                    method=risk_pb2.TailRisk.METHOD_PARAMETRIC,
                    variant="normal",
                    level=0.99,
                    value_at_risk=[0.02],
                    exceptions=1,
                    expected_exceptions=0.01,
                    coverage=risk_pb2.LikelihoodRatio(statistic=9.2, p_value=0.002),
                    zone=risk_pb2.BacktestResult.ZONE_YELLOW,
                )
            ],
            days=[risk_pb2.BacktestDay(forecast_ns=1246478400 * NANO, realized_ns=1246564800 * NANO, pnl=-0.03)],
        ),
    )


@pytest.fixture
def built(facts) -> dict:
    session = decision_pb2.Session(
        session_id="s",
        state=decision_pb2.Session.STATE_SUCCEEDED,
        cycles_done=2,
        final_event_hash=bytes(32),
        spec=decision_pb2.SessionSpec(
            instrument_ids=["AAPL"], initial_cash=usd(1_000_000), start_ns=1246406400 * NANO, end_ns=1246492800 * NANO
        ),
    )
    cycles = {
        seq: decision_pb2.CycleProgress(
            seq=seq, latencies=[decision_pb2.StepLatency(step="cycle", elapsed_ns=seq * 1_000_000)]
        )
        for seq in range(1, 101)
    }
    around = report.Surroundings(
        transport="local",
        elapsed_s=2.0,
        services={"risk": {"version": "1", "pid": 1, "restarts": 0, "startup_ms": 1.0}},
        startup_ms={"total": 1.0},
        data_dir=Path("/run"),
        logs={"local": "/run/logs/local.jsonl"},
    )
    return report.build(Watched(session=session, cycles=cycles), facts, around)


def test_profit_and_loss_is_the_sum_over_fills_and_marks(facts, built):
    assert report.pnl_from_fills(facts) == 67_500_000_000
    assert (built["pnl"], built["pnl_from_fills"], built["reconciled"]) == ("67.5", "67.5", True)


def test_profit_and_loss_of_two_currencies_is_added_up_in_each(facts):
    """10,000 dollars became 9,000 euros, 5 shares were bought at 100 of them and stand at 110, at a rate of 1.20."""
    euros = [money(amount * NANO, "EUR") for amount in (8_499, 9_000)]
    books = [
        execution_pb2.CurrencyBooks(cash=usd(989_437.5), funding=usd(990_000)),
        execution_pb2.CurrencyBooks(
            cash=euros[0], funding=euros[1], rate_instrument_id="EURUSD", rate_e9=1_200_000_000
        ),
    ]
    del facts.account.currencies[:]
    facts.account.currencies.extend(books)
    facts.account.positions.add(
        instrument_id="SAP", quantity_e9=5 * NANO, cost=money(500 * NANO, "EUR"), mark_e9=110 * NANO
    )
    bought = fill(trading_pb2.SIDE_BUY, 5, 100, 0)
    bought.instrument_id = "SAP"
    bought.fee.CopyFrom(money(NANO, "EUR"))
    facts.fills.append(bought)
    assert report.pnl_from_fills(facts) == usd_e9(67.5 - 10_000 + 1.2 * (9_000 + 50 - 1))


def test_profit_and_loss_counts_splits_and_dividends_from_their_terms(facts):
    """Ten shares at 105 become twenty at 52.50, then bring 0.25 each: only the dividend is a profit."""
    before = report.pnl_from_fills(facts)
    last = max(fill.seq for fill in facts.fills)
    name = facts.fills[0].instrument_id
    facts.instruments[name].size_increment_e9 = NANO
    held = next(position for position in facts.account.positions if position.instrument_id == name)
    split = execution_pb2.CorporateAction(instrument_id=name, split=execution_pb2.Split(new_shares=2, old_shares=1))
    paid = execution_pb2.CorporateAction(
        instrument_id=name, cash_dividend=execution_pb2.CashDividend(per_share=usd(0.25))
    )
    facts.actions.append((last + 1, events_pb2.CorporateActionApplied(action=split, cash=usd(0))))
    facts.actions.append(
        (last + 2, events_pb2.CorporateActionApplied(action=paid, cash=usd(0.25 * 2 * held.quantity_e9 / NANO)))
    )
    held.mark_e9 //= 2
    assert report.pnl_from_fills(facts) == before + held.quantity_e9 // 2


def test_books_that_do_not_add_up_are_seen(facts):
    facts.fills.pop()
    assert report.pnl_from_fills(facts) == -1_001_500_000_000 + 10 * 105 * NANO


def test_counts_are_by_agent_outcome_and_deciding_reason(built):
    assert built["signals_by_agent"] == {"technical.trend": 2}
    assert built["abstentions_by_agent"] == {"technical.trend": 1}
    assert built["agent_versions"] == {"technical.trend": "2"}
    assert built["missing_agents"] == {"llm_agent": 1}
    assert built["orders_by_outcome"] == {"DENIED": 1, "FILLED": 1}
    assert built["denials_by_reason"] == {"POSITION_LIMIT": 1}
    assert built["decisions_by_outcome"] == {"TRADE": 1}
    assert built["data_findings_by_kind"] == {"SPLIT": 1}
    assert (built["cycles"], built["fills"], built["instruments"]) == (2, 2, ["AAPL"])


def test_latency_is_by_nearest_rank(built):
    assert built["latency_ms"] == {"cycle": {"p50": 50.0, "p99": 99.0}}
    assert report.quantile_ms([3_000_000], 0.99) == 3.0


def test_what_was_not_computed_is_null_and_money_is_exact_text(built):
    assert built["sharpe"] is None
    assert built["max_drawdown"] == 0.01
    assert built["equity"] == "1000067.5"
    assert built["equity_curve"] == [{"date": "2009-07-01", "ts_ns": 1246478400 * NANO, "equity": "1000067.5"}]
    assert built["positions"][0] == {
        "instrument_id": "AAPL",
        "currency": "USD",
        "quantity": "6",
        "cost": "600",
        "mark": "105",
        "value": "630",
    }
    assert orjson.loads(orjson.dumps(built)) == built


def test_risk_says_what_was_computed_and_what_was_not(built):
    risk = built["risk"]
    known, unknown = risk["tail_risks"]
    assert (known["method"], known["value_at_risk"], known["absent_reason"]) == ("PARAMETRIC", 0.01, None)
    assert known["contributions"] == [
        {
            "instrument_id": "AAPL",
            "value_at_risk": 0.01,
            "expected_shortfall": 0.02,
            "marginal_value_at_risk": 15.0,
        }
    ]
    assert (unknown["value_at_risk"], unknown["contributions"], unknown["absent_reason"]) == (None, [], "too young")
    # What must happen for a loss of a half is no answer to what may happen.
    assert risk["worst_stress"] == {"scenario": "down", "pnl": -0.1}
    assert (risk["equity"], risk["positions"][0]["value"]) == ("1000067.5", "630")
    assert risk["positions"][0]["liquidation_days"] is None
    backtest = built["var_backtest"]
    assert (backtest["days"], backtest["results"][0]["zone"]) == (1, "YELLOW")
    assert backtest["results"][0]["independence"] is None
    assert backtest["daily"] == [
        {
            "date": "2009-07-01",
            "forecast_ns": 1246478400 * NANO,
            "realized_ns": 1246564800 * NANO,
            "pnl": -0.03,
            "value_at_risk": [0.02],
        }
    ]


def keys_of(value: object) -> set[str]:
    """Every key of a nested value."""
    if isinstance(value, dict):
        return {*value, *(key for inner in value.values() for key in keys_of(inner))}
    return {key for inner in value for key in keys_of(inner)} if isinstance(value, list) else set()


def test_every_key_is_documented(built):
    text = DOCUMENT.read_text()
    keys = {*built, *built["session"], *built["trades"][0], *built["positions"][0], *built["services"]["risk"]}
    keys |= keys_of(built["agents"]) | keys_of(built["risk"]) | keys_of(built["var_backtest"])
    missing = sorted(key for key in keys if f"`{key}`" not in text)
    assert missing == []
