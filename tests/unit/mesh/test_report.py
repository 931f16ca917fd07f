from pathlib import Path

import orjson
import pytest

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.portfolio.v1 import portfolio_pb2
from alphamesh.type.v1 import trading_pb2
from mesh import report
from mesh.session import Watched
from python_services.kit.convert import NANO, money

DOCUMENT = Path(__file__).parents[3] / "docs" / "report.md"


def usd(amount: float):
    return money(round(amount * NANO), "USD")


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
                        abstentions=["IBM: REASON_NO_SIGNAL"],
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
        account=execution_pb2.Account(
            cash=usd(999_437.5),
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
        multipliers_e9={"AAPL": NANO},
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
        "quantity": "6",
        "cost": "600",
        "mark": "105",
        "value": "630",
    }
    assert orjson.loads(orjson.dumps(built)) == built


def test_every_key_is_documented(built):
    text = DOCUMENT.read_text()
    keys = {*built, *built["session"], *built["trades"][0], *built["positions"][0], *built["services"]["risk"]}
    missing = sorted(key for key in keys if f"`{key}`" not in text)
    assert missing == []
