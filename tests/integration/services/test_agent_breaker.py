"""An agent service that stays away is not waited for in every decision, and the decisions say so."""

from __future__ import annotations

import asyncio
from datetime import date
from pathlib import Path

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from mesh import session
from python_services.kit.ids import request_id
from python_services.local import LocalSystem

from .conftest import without_models

WISH = session.Wish(
    start=date(2009, 7, 1), end=date(2010, 6, 30), instruments=("AAPL", "MSFT"), account="demo", cash="1000000",
    currency="USD", method="RISK_PARITY", lookback=60, risk_aversion=5.0, maximum_weight=0.5, maximum_turnover=0.5,
    short_allowed=False, seed=7,
)  # fmt: skip
RESET_S = 0.5
CANCELED = decision_pb2.Session.STATE_CANCELED
HOLD = decision_pb2.Decision.OUTCOME_HOLD_NO_QUORUM


async def test_decisions_say_that_the_breaker_is_open_and_the_agents_return(tmp_path: Path) -> None:
    mesh = without_models().with_config("coordinator", {"breaker_failures": 2, "breaker_reset_s": RESET_S})
    async with asyncio.timeout(100), LocalSystem(tmp_path, mesh) as system:
        spec = session.spec(WISH)
        spec.policy.deadline_ns = 150_000_000
        spec.policy.ClearField("hedge_after_ns")
        stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
        await system.stop("technical_agent")
        created = await stub.CreateSession(decision_pb2.CreateSessionRequest(request_id=request_id("b"), spec=spec))
        found: list[decision_pb2.Decision] = []

        async def until(condition) -> None:
            while not condition():
                await asyncio.sleep(0.02)  # the session goes on
                request = decision_pb2.ListDecisionsRequest(session_id=created.session.session_id, page_size=500)
                found[:] = (await stub.ListDecisions(request)).decisions

        await until(lambda: len(found) >= 5)
        reasons = [decision.missing[0].reason for decision in found[:5]]
        assert all("BREAKER_OPEN" not in reason for reason in reasons[:2]), "two failures before it opens"
        assert reasons[2] == (
            "BREAKER_OPEN: the breaker of technical_agent is open after 2 failures in a row; "
            "the last: UNAVAILABLE: service technical_agent is not running"
        )
        assert {decision.outcome for decision in found[:5]} == {HOLD}
        await system.start("technical_agent")
        await until(lambda: any(decision.signals for decision in found))
        first = next(number for number, decision in enumerate(found) if decision.signals)
        await until(lambda: len(found) > first + 3)
        assert not any(decision.missing for decision in found[first:])
        cancel = decision_pb2.CancelSessionRequest(request_id=request_id("c"), session_id=created.session.session_id)
        await stub.CancelSession(cancel)
        watch = decision_pb2.WatchSessionRequest(session_id=created.session.session_id, from_seq=1)
        assert [response.session.state async for response in stub.WatchSession(watch)][-1] == CANCELED
