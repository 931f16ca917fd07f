"""Both transports, one behaviour: every test runs over Unix sockets between processes and inside one process."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import money_pb2
from python_services.kit import policy
from python_services.kit.errors import from_rpc_error

from ..conftest import open_system

LIMITS = risk_pb2.Limits(
    gross_exposure_bps=1, net_exposure_bps=1, position_bps=1, sector_bps=1, order_bps=1, daily_loss_bps=1,
    drawdown_bps=1, var_bps=1, price_collar_bps=1, max_age_ns=1, orders_per_second=1,
    order_minimum=money_pb2.Money(currency_code="USD", units=1),
)  # fmt: skip


@pytest.fixture(params=["sockets", "local"])
async def system(request, up, tmp_path):
    async with open_system(request.param, up, tmp_path) as opened:
        yield opened


@pytest.fixture
def risk(system):
    return system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")


def set_limits(account: str, request_id: str | None = None, bps: int = 1) -> risk_pb2.SetLimitsRequest:
    limits = risk_pb2.Limits()
    limits.CopyFrom(LIMITS)
    limits.var_bps = bps
    return risk_pb2.SetLimitsRequest(
        request_id=request_id or str(uuid.uuid4()), account_id=account, limits=limits, ts_event_ns=1
    )


async def failed(call) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_a_typed_error_arrives_with_reason_metadata_and_message(risk):
    error = from_rpc_error(await failed(risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="refused"))))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    assert error.reason == "REFUSED_BY_TEST"
    assert error.metadata == {"account": "refused"}
    assert error.message == "no; ask for another account"


async def test_validation_names_the_field(risk):
    error = from_rpc_error(await failed(risk.GetLimits(risk_pb2.GetLimitsRequest())))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.reason == "VALIDATION"
    assert [field for field, _ in error.violations] == ["account_id"]


async def test_an_error_in_the_handler_is_internal_and_tells_nothing_else(risk):
    error = from_rpc_error(await failed(risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="broken"))))
    assert error.code is grpc.StatusCode.INTERNAL
    assert "RuntimeError in /alphamesh.risk.v1.RiskService/GetLimits" in error.message
    assert "a bug" not in error.message


async def test_a_deadline_ends_the_call(risk):
    loop = asyncio.get_running_loop()
    begun = loop.time()
    error = await failed(risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="slow"), timeout=0.2))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert loop.time() - begun < 2


async def test_a_cancelled_call_ends_for_the_caller_and_the_service_goes_on(risk):
    call = asyncio.ensure_future(risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="slow")))
    await asyncio.sleep(0.05)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (await failed(risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="nobody")))).code().name == "NOT_FOUND"


async def test_every_method_has_a_deadline_without_asking():
    assert policy.timeout_s("/alphamesh.risk.v1.RiskService/GetLimits") > 0


async def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(risk):
    account, request_id = f"a{uuid.uuid4().hex}", str(uuid.uuid4())
    first = await risk.SetLimits(set_limits(account, request_id))
    before = await risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=account))
    again = await risk.SetLimits(set_limits(account, request_id))
    after = await risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=account))
    assert again == first
    assert after.policy_version == before.policy_version


async def test_many_repeats_at_once_are_one_change(risk):
    account, request_id = f"a{uuid.uuid4().hex}", str(uuid.uuid4())
    answers = await asyncio.gather(*(risk.SetLimits(set_limits(account, request_id)) for _ in range(20)))
    assert len({answer.etag for answer in answers}) == 1


async def test_a_request_id_with_other_content_is_refused(risk):
    account, request_id = f"a{uuid.uuid4().hex}", str(uuid.uuid4())
    await risk.SetLimits(set_limits(account, request_id))
    error = from_rpc_error(await failed(risk.SetLimits(set_limits(account, request_id, bps=2))))
    assert (error.code.name, error.reason) == ("FAILED_PRECONDITION", "REQUEST_ID_REUSED")


async def test_a_view_in_another_service_follows(system, risk):
    account = f"a{uuid.uuid4().hex}"
    await risk.SetLimits(set_limits(account))
    seq = (await risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=account))).policy_version
    reader = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "reader")
    request = portfolio_pb2.GetPerformanceRequest(account_id=account, min_seq=seq)
    answer = await reader.GetPerformance(request)
    assert answer.applied_seq >= seq
    assert answer.performance.fills == answer.applied_seq


async def test_an_error_of_a_callee_passes_through_with_its_reason(system):
    reader = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "reader")
    call = reader.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id="refused"))
    assert from_rpc_error(await failed(call)).reason == "REFUSED_BY_TEST"


async def test_a_stream_ends_when_it_says_so(system, risk):
    await risk.SetLimits(set_limits(f"a{uuid.uuid4().hex}"))
    events = system.stub(execution_pb2_grpc.ExecutionServiceStub, "ledger")
    request = execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)
    responses = [response async for response in events.StreamEvents(request)]
    assert responses[0].frame.first_seq == 1
    assert responses[-1].end_reason == execution_pb2.StreamEventsResponse.END_REASON_CAUGHT_UP


async def test_a_stream_checks_its_opening_message(system):
    events = system.stub(execution_pb2_grpc.ExecutionServiceStub, "ledger")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in events.StreamEvents(execution_pb2.StreamEventsRequest(from_seq=0)):
            pass
    assert from_rpc_error(caught.value).reason == "VALIDATION"


async def test_a_method_that_nobody_wrote_is_unimplemented(risk):
    request = risk_pb2.AssessPortfolioRequest(
        request_id=str(uuid.uuid4()), decision_id="d", account_id="a", snapshot_id="0" * 64, min_seq=1
    )
    assert (await failed(risk.AssessPortfolio(request))).code() is grpc.StatusCode.UNIMPLEMENTED
