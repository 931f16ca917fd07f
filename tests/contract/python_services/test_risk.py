"""The risk service beside the real ledger and its gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from alphamesh.execution.v1 import events_pb2 as ledger_events
from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.risk.v1 import events_pb2, risk_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit import convert
from python_services.kit.errors import from_rpc_error
from python_services.kit.ids import request_id
from python_services.kit.journal import Journal
from python_services.risk.config import Config, Limits
from python_services.risk.policy import to_message
from tests.contract.python_services.trading_floor import ACCOUNT, CASH, NANO, Floor, refused, system, usd

A = risk_pb2.Assessment
ACTIVE, REDUCE_ONLY = trading_pb2.TRADING_STATE_ACTIVE, trading_pb2.TRADING_STATE_REDUCE_ONLY
CANCEL_ALL, HALTED = trading_pb2.TRADING_STATE_CANCEL_ALL, trading_pb2.TRADING_STATE_HALTED


@pytest.fixture
async def floor(tmp_path: Path) -> AsyncIterator[Floor]:
    async with system(tmp_path) as running:
        found = Floor(running)
        await found.open()
        await found.next_day()
        yield found


def limits(**changes: Any) -> risk_pb2.Limits:
    message = to_message(Config().limits, "USD")
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def set_limits(floor: Floor, **changes: Any) -> risk_pb2.SetLimitsRequest:
    return risk_pb2.SetLimitsRequest(
        request_id=request_id("limits", *(f"{k}={v}" for k, v in changes.items())),
        account_id=ACCOUNT,
        limits=limits(**changes),
        ts_event_ns=floor.closes[floor.day],
    )


def set_state(state: trading_pb2.TradingState.ValueType, *key: str, etag: str = "") -> risk_pb2.SetTradingStateRequest:
    return risk_pb2.SetTradingStateRequest(
        request_id=request_id("state", state, *key),
        account_id=ACCOUNT,
        trading_state=state,
        reason="test",
        etag=etag,
    )


async def current(floor: Floor) -> risk_pb2.GetLimitsResponse:
    response: risk_pb2.GetLimitsResponse = await floor.risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=ACCOUNT))
    return response


async def assess(floor: Floor, shares: dict[str, int]) -> risk_pb2.Assessment:
    response = await floor.risk.AssessPortfolio(floor.assessment(shares))
    found: risk_pb2.Assessment = response.assessment
    return found


async def test_a_proposal_of_nothing_is_approved_and_opens_the_gate(floor: Floor) -> None:
    """What is neither held nor wanted is not named: of a cycle that holds cash, that is every instrument."""
    found = await assess(floor, {})
    assert (found.verdict, found.scale, list(found.approved_quantity_e9)) == (A.VERDICT_APPROVED, 1.0, [])
    assert (found.value_at_risk, found.expected_shortfall, found.policy_version) == (0.0, 0.0, 1)
    used = {use.limit: use.used_bps for use in found.limit_uses}
    assert (used["gross_exposure_bps"], used["net_exposure_bps"], used["var_bps"]) == (0.0, 0.0, 0.0)
    assert not any(use.violated for use in found.limit_uses)
    bought = await floor.buy({"IBM": 100})
    assert bought[0].state == order_pb2.ORDER_STATE_ACCEPTED


async def test_what_a_proposal_leaves_out_is_held_as_it_is(floor: Floor) -> None:
    await assess(floor, {})
    await floor.buy({"IBM": 2000})
    await floor.next_day()
    found = await assess(floor, {"MSFT": 1000})
    assert list(found.approved_quantity_e9) == [1000 * NANO]
    used = {use.limit: use.used_bps for use in found.limit_uses}
    marks = dict(zip(floor.snapshot.instrument_ids, floor.snapshot.mark_e9, strict=True))
    assert used["gross_exposure_bps"] * CASH / 10_000 == pytest.approx(
        (2000 * marks["IBM"] + 1000 * marks["MSFT"]) / NANO, rel=0.01
    ), "IBM counts, too"


async def test_an_approved_portfolio_opens_the_gate(floor: Floor) -> None:
    before = await floor.buy({"IBM": 100})
    assert before[0].denial_reasons[0] == order_pb2.DENIAL_REASON_RISK_POLICY_STALE
    await floor.next_day()
    found = await assess(floor, {"IBM": 2000, "MSFT": 1000})
    assert (found.verdict, found.scale, found.policy_version) == (A.VERDICT_APPROVED, 1.0, 1)
    assert list(found.approved_quantity_e9) == [2000 * NANO, 1000 * NANO]
    assert 0.0 < found.value_at_risk < found.expected_shortfall < 0.05
    after = await floor.buy({"IBM": 2000})
    assert after[0].state == order_pb2.ORDER_STATE_ACCEPTED
    assert (await floor.ledger()).policy_version == 1


async def test_the_policy_says_what_the_limits_say(floor: Floor) -> None:
    await floor.risk.SetLimits(set_limits(floor, position_bps=2000, order_bps=1000))
    await assess(floor, {"IBM": 0})
    policy = await applied_policy(floor)
    assert policy.position_limit == usd(CASH // 5)
    assert policy.order_notional_limit == usd(CASH // 10)
    assert policy.gross_exposure_limit == usd(CASH)
    assert policy.order_notional_minimum == usd(100)
    assert policy.daily_loss_limit == usd(CASH // 20)
    assert (policy.concentration_limit_bps, policy.leverage_limit_bps) == (2000, 10_000)
    assert policy.ts_event_ns == floor.closes[0]
    assert policy.var_budget == usd(CASH // 20)
    assert policy.var_used == usd(0)


async def applied_policy(floor: Floor) -> execution_pb2.RiskPolicy:
    """The last policy in the ledger."""
    found = execution_pb2.RiskPolicy()
    request = execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)
    async for response in floor.execution.StreamEvents(request):
        for envelope in response.frame.events:
            if envelope.schema == ledger_events.RiskPolicyApplied.DESCRIPTOR.full_name:
                found = ledger_events.RiskPolicyApplied.FromString(envelope.payload).policy
    return found


async def test_too_much_is_cut_to_the_tightest_limit(floor: Floor) -> None:
    mark = floor.snapshot.mark_e9[2]
    found = await assess(floor, {"IBM": CASH * NANO // mark})
    assert found.verdict == A.VERDICT_REDUCED
    broken = {use.limit for use in found.limit_uses if use.violated}
    assert {"position_bps[IBM]", "order_bps[IBM]"} <= broken
    assert found.approved_quantity_e9[0] == 35 * CASH * NANO // 100 // mark * NANO
    # Whoever applies the scale instead gets no more.
    assert int(CASH * NANO // mark * found.scale) <= found.approved_quantity_e9[0] // NANO


async def test_a_repeat_gets_the_first_answer_also_after_a_restart(floor: Floor) -> None:
    request = floor.assessment({"IBM": 1000})
    first = await floor.risk.AssessPortfolio(request)
    assert await floor.risk.AssessPortfolio(request) == first
    await floor.system.stop("risk")
    await floor.system.start("risk")
    assert await floor.risk.AssessPortfolio(request) == first
    await floor.next_day()
    assert (await assess(floor, {"IBM": 1000})).policy_version == 2


async def test_limits_and_states_survive_a_restart(floor: Floor) -> None:
    defaults = await current(floor)
    assert (defaults.limits, defaults.trading_state) == (limits(), ACTIVE)
    await floor.risk.SetLimits(set_limits(floor, position_bps=1234))
    await floor.risk.SetTradingState(set_state(REDUCE_ONLY))
    before = await current(floor)
    await floor.system.stop("risk")
    await floor.system.start("risk")
    assert await current(floor) == before
    assert (before.limits.position_bps, before.trading_state) == (1234, REDUCE_ONLY)
    assert before.etag != defaults.etag


async def test_contradicting_limits_are_refused(floor: Floor) -> None:
    error = await refused(floor.risk.SetLimits(set_limits(floor, gross_exposure_bps=5000)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "lower net_exposure_bps or raise gross_exposure_bps" in (error.details() or "")
    assert (await current(floor)).limits == limits()


async def test_limits_of_nobody_are_not_found(floor: Floor) -> None:
    error = await refused(floor.risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_the_ladder_reaches_the_gate_at_once(floor: Floor) -> None:
    await assess(floor, {"IBM": 1000})
    await floor.buy({"IBM": 1000})
    response = await floor.risk.SetTradingState(set_state(CANCEL_ALL))
    assert (response.trading_state, response.policy_version) == (CANCEL_ALL, 2)
    ledger = await floor.ledger()
    assert (ledger.trading_state, ledger.open_orders, ledger.policy_version) == (CANCEL_ALL, 0, 2)

    await floor.next_day()
    denied = await floor.buy({"MSFT": 100})
    assert order_pb2.DENIAL_REASON_REDUCE_ONLY_STATE in denied[0].denial_reasons
    found = await assess(floor, {"MSFT": 100})
    assert (found.verdict, list(found.approved_quantity_e9)) == (A.VERDICT_REJECTED, [0])

    response = await floor.risk.SetTradingState(set_state(ACTIVE))
    assert response.trading_state == (await floor.ledger()).trading_state == ACTIVE


async def test_the_operators_own_state_at_execution_is_respected(floor: Floor) -> None:
    request = execution_pb2.SetTradingStateRequest(
        request_id=request_id("direct"), account_id=ACCOUNT, trading_state=HALTED, reason="by hand"
    )
    floor.seq = (await floor.execution.SetTradingState(request)).applied_seq
    found = await assess(floor, {"IBM": 100})
    assert found.verdict == A.VERDICT_REJECTED
    assert (await current(floor)).trading_state == ACTIVE


async def test_an_old_etag_is_aborted(floor: Floor) -> None:
    etag = (await current(floor)).etag
    await floor.risk.SetLimits(set_limits(floor, position_bps=1000))
    error = from_rpc_error(await refused(floor.risk.SetTradingState(set_state(HALTED, etag=etag))))
    assert (error.code, error.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    await floor.risk.SetTradingState(set_state(HALTED, "again", etag=(await current(floor)).etag))


async def test_a_drawdown_stops_new_risk_by_itself(tmp_path: Path) -> None:
    tight = Limits(daily_loss_bps=1, drawdown_bps=1)  # one hundred dollars: the fees do it
    async with system(tmp_path, risk={"limits": tight.__dict__}) as running:
        floor = Floor(running)
        await floor.open()
        await floor.next_day()
        await assess(floor, {"AAPL": 2000, "IBM": 2500})
        await floor.buy({"AAPL": 2000, "IBM": 2500})
        account = await floor.next_day()
        assert convert.money_e9(account.equity) < CASH * NANO - 100 * NANO
        found = await assess(floor, {"AAPL": 3000, "IBM": 1000})
        assert found.verdict == A.VERDICT_REJECTED
        assert list(found.approved_quantity_e9) == [2000 * NANO, 1000 * NANO]
        assert {use.limit for use in found.limit_uses if use.violated} >= {"drawdown_bps", "daily_loss_bps"}
        assert (await current(floor)).trading_state == REDUCE_ONLY
        assert (await floor.ledger()).trading_state == REDUCE_ONLY
    journal = Journal(tmp_path / "data" / "risk" / "journal.db", "risk", "0", pytest.fail)
    # The report of the fills is made beside the path of decisions: test_risk_report.py has it.
    reported = events_pb2.RiskReported.DESCRIPTOR.full_name
    events = [envelope for frame in journal.read(1) for envelope in frame.events if envelope.schema != reported]
    journal.close()
    assert [event.schema.rpartition(".")[2] for event in events] == [
        "PortfolioAssessed",
        "TradingStateRequested",
        "PortfolioAssessed",
    ]
    state = events_pb2.TradingStateRequested.FromString(events[1].payload)
    assert state.cause == events_pb2.TradingStateRequested.CAUSE_DRAWDOWN
    assert "drawdown" in state.reason
    assert events[1].correlation_id == "test-0001"


async def test_nothing_is_half_done_while_execution_is_away(floor: Floor) -> None:
    request = floor.assessment({"IBM": 1000})
    await floor.system.stop("execution")
    error = await refused(floor.risk.AssessPortfolio(request))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    gone = await refused(floor.risk.SetTradingState(set_state(HALTED)))
    assert gone.code() is grpc.StatusCode.UNAVAILABLE
    assert (await current(floor)).trading_state == ACTIVE
    await floor.system.start("execution")
    assert (await floor.risk.AssessPortfolio(request)).assessment.policy_version == 1
    assert (await floor.risk.SetTradingState(set_state(HALTED))).policy_version == 2


async def test_a_call_cut_short_after_its_push_does_not_push_twice(floor: Floor, tmp_path: Path) -> None:
    # As if risk had died between the push and its journal: the policy is in the ledger, the answer nowhere.
    request = floor.assessment({"IBM": 1000})
    await floor.risk.AssessPortfolio(request)
    await floor.system.stop("risk")
    for path in (tmp_path / "data" / "risk").iterdir():
        path.unlink()
    await floor.system.start("risk")
    again = await floor.risk.AssessPortfolio(request)
    assert again.assessment.policy_version == 1
    assert (await floor.ledger()).policy_version == 1
