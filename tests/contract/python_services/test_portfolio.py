"""The portfolio service beside the real ledger: what it proposes, remembers and refuses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from alphamesh.portfolio.v1 import portfolio_pb2
from python_services.kit import convert
from python_services.kit.errors import from_rpc_error
from python_services.kit.ids import request_id
from tests.contract.python_services.trading_floor import ACCOUNT, CASH, NANO, Floor, refused, system, usd

BULLISH = {"AAPL": 0.02, "GOOG": 0.015, "IBM": 0.01, "MSFT": -0.01}


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    async with system(tmp_path) as running:
        found = Floor(running)
        await found.open()
        await found.next_day()
        yield found


async def test_a_proposal_names_what_is_held_or_wanted(floor: Floor) -> None:
    response = await floor.portfolio.ProposeTargets(floor.proposal(BULLISH))
    proposal = response.proposal
    rows = list(proposal.instrument_index)
    assert rows
    assert rows == sorted(set(rows))
    assert 3 not in rows, "MSFT is forecast to fall and not held"
    assert all(0.0 < weight <= 0.3 for weight in proposal.target_weight)
    assert len(proposal.target_weight) == len(rows)
    assert all(quantity > 0 and quantity % NANO == 0 for quantity in proposal.target_quantity_e9)
    assert (list(proposal.current_quantity_e9), list(proposal.current_weight)) == ([0] * len(rows), [0.0] * len(rows))
    assert (proposal.equity, proposal.decision_id) == (usd(CASH), "test-0000")
    assert proposal.turnover == pytest.approx(sum(proposal.target_weight) / 2)
    assert proposal.HasField("expected_return")
    assert proposal.HasField("expected_volatility")
    assert proposal.solver.startswith("mean_variance by daqp: optimal")
    assert response.applied_seq == floor.seq


async def test_a_repeat_gets_the_first_answer_also_after_a_restart(floor: Floor) -> None:
    request = floor.proposal(BULLISH)
    first = await floor.portfolio.ProposeTargets(request)
    assert await floor.portfolio.ProposeTargets(request) == first
    await floor.system.stop("portfolio")
    await floor.system.start("portfolio")
    assert await floor.portfolio.ProposeTargets(request) == first
    request.mandate.risk_aversion = 6.0
    error = await refused(floor.portfolio.ProposeTargets(request))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_current_weights_and_performance_follow_the_ledger(floor: Floor) -> None:
    await floor.risk.AssessPortfolio(floor.assessment({"IBM": 2000}))
    await floor.buy({"IBM": 2000})
    account = await floor.next_day()
    proposal = (await floor.portfolio.ProposeTargets(floor.proposal(BULLISH))).proposal
    position = account.positions[0]
    ibm = list(proposal.instrument_index).index(2)
    equity = convert.money_e9(account.equity)
    assert proposal.current_quantity_e9[ibm] == position.quantity_e9 == 2000 * NANO
    assert proposal.current_weight[ibm] == pytest.approx(2000 * position.mark_e9 / equity)

    request = portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=floor.seq)
    found = (await floor.portfolio.GetPerformance(request)).performance
    assert found.initial_equity == usd(CASH)
    assert found.equity == account.equity
    assert convert.money_e9(found.pnl) == equity - CASH * NANO
    assert (found.fees, found.fills) == (account.fees, 1)
    assert list(found.equity_e9) == [CASH * NANO, equity]
    assert list(found.valued_at_ns) == floor.closes[:2]
    assert found.turnover == pytest.approx(convert.money_e9(found.traded_notional) / (CASH * NANO + equity))
    assert found.max_drawdown == pytest.approx(max(1 - equity / CASH / NANO, 0.0))
    assert not found.HasField("sharpe")  # one return has no deviation


async def test_performance_before_any_valuation(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        floor = Floor(running)
        await floor.open()
        request = portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=floor.seq)
        found = (await floor.portfolio.GetPerformance(request)).performance
        assert found.initial_equity == usd(CASH)
        assert not any(found.HasField(name) for name in ("equity", "pnl", "turnover", "max_drawdown", "sharpe"))


async def test_a_state_that_does_not_come_ends_at_the_deadline(floor: Floor) -> None:
    request = floor.proposal(BULLISH)
    request.min_seq = floor.seq + 1
    error = await refused(floor.portfolio.ProposeTargets(request, timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_what_is_wrong_is_named(floor: Floor) -> None:
    def broken(**changes: object) -> portfolio_pb2.ProposeTargetsRequest:
        request = floor.proposal(BULLISH)
        request.request_id = request_id("broken", *map(str, changes))
        for name, value in changes.items():
            setattr(request, name, value)
        return request

    unknown = await refused(floor.portfolio.ProposeTargets(broken(account_id="nobody")))
    assert unknown.code() is grpc.StatusCode.NOT_FOUND
    assert "'nobody' is not known" in (unknown.details() or "")

    lost = await refused(floor.portfolio.ProposeTargets(broken(snapshot_id="0" * 64)))
    assert lost.code() is grpc.StatusCode.NOT_FOUND

    request = broken()
    request.forecast.instrument_index[3] = 4
    row = from_rpc_error(await refused(floor.portfolio.ProposeTargets(request)))
    assert row.violations[0][0] == "forecast.instrument_index"

    request = broken()
    request.mandate.minimum_trade.currency_code = "EUR"
    money = from_rpc_error(await refused(floor.portfolio.ProposeTargets(request)))
    assert (money.code, money.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "CURRENCY_MISMATCH")
