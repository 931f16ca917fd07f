"""explain, decisions, trading-state, convert."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import orjson

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.type.v1 import trading_pb2
from python_services.kit.convert import decimal, money_e9

from .. import explanation, order_story, tables
from ..connect import System, reading, running
from ..errors import MeshError
from ..report import list_decisions, list_fills, list_orders
from ..rundir import RunDir
from ..session import amount as money_of
from ..session import day_of


async def explain(wanted: str | None, last: bool, data_dir: Path | None, as_json: bool) -> int:
    """Shows one decision with its lineage, its orders and its fills, or one order with its reasons and its events."""
    if (wanted is None) != last:
        raise MeshError("give a decision_id (see `alphamesh decisions`), a client_order_id, or --last")
    run = RunDir.find(data_dir)
    async with reading(run) as system:
        identifier = wanted or await latest_decision(system)
        answer = await _decision(system, identifier)
        if answer is None:
            story = await order_story.find(system, identifier)
            if story is None:
                raise MeshError(
                    f"{run.path} holds no decision and no order {identifier!r}; `alphamesh decisions` lists its "
                    "decisions, and `alphamesh explain <decision_id>` the orders of one"
                )
            content, show = story, order_story.show
        else:
            account = answer.decision.account_id
            orders = [order async for order in list_orders(system, account, identifier)]
            fills = [fill async for fill in list_fills(system, account, identifier)]
            content, show = explanation.build(answer, orders, fills), explanation.show
    if as_json:
        print(orjson.dumps(content, option=orjson.OPT_INDENT_2).decode())
    else:
        show(content)
    return 0


async def _decision(system: System, decision_id: str) -> decision_pb2.GetDecisionResponse | None:
    stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
    try:
        return await stub.GetDecision(decision_pb2.GetDecisionRequest(decision_id=decision_id))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            raise
        return None


async def decisions(session: str | None, data_dir: Path | None, as_json: bool) -> int:
    """One line for each decision of a session."""
    run = RunDir.find(data_dir)
    async with reading(run) as system:
        session_id = session or await _newest_session(system)
        listed = [decision async for decision in list_decisions(system, session_id)]
    rows: list[dict[str, Any]] = [
        {
            "decision_id": decision.decision_id,
            "date": day_of(decision.as_of_ns),
            "outcome": decision_pb2.Decision.Outcome.Name(decision.outcome).removeprefix("OUTCOME_"),
            "orders": len(decision.orders),
            "explanation": decision.explanation,
        }
        for decision in listed
    ]
    if as_json:
        print(orjson.dumps({"session_id": session_id, "decisions": rows}, option=orjson.OPT_INDENT_2).decode())
        return 0
    shown = tables.table(
        f"Session {session_id}", "decision", "date", "outcome", "orders", "explanation", numbers=frozenset({"orders"})
    )
    for row in rows:
        shown.add_row(*(str(value) for value in row.values()))
    tables.console.print(shown)
    return 0


async def trading_state(state: str, reason: str, account: str, data_dir: Path | None) -> int:
    """Goes to execution directly: the kill ladder needs nobody else."""
    async with running(RunDir.find(data_dir)) as system:
        stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        answer = await stub.SetTradingState(
            execution_pb2.SetTradingStateRequest(
                request_id=str(uuid.uuid4()),
                account_id=account,
                trading_state=trading_pb2.TradingState.Value(f"TRADING_STATE_{state}"),
                reason=reason,
            )
        )
    in_force = trading_pb2.TradingState.Name(answer.trading_state).removeprefix("TRADING_STATE_")
    print(f"account {account} is {in_force} since ledger sequence {answer.applied_seq}")
    return 0


async def convert(amount: str, sell: str, buy: str, account: str, data_dir: Path | None) -> int:
    """Exchanges cash, and says what came of it."""
    async with running(RunDir.find(data_dir)) as system:
        stub = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        answer = await stub.ConvertCurrency(
            execution_pb2.ConvertCurrencyRequest(
                request_id=str(uuid.uuid4()),
                account_id=account,
                sell=money_of(amount, sell, "amount"),
                buy_currency_code=buy,
            )
        )
    bought = tables.money(decimal(money_e9(answer.bought)), answer.bought.currency_code)
    print(f"account {account} received {bought} at ledger sequence {answer.applied_seq}")
    return 0


async def latest_decision(system: System) -> str:
    """decision_id of the newest decision. Raises MeshError when there is none."""
    latest = ""
    async for decision in list_decisions(system, await _newest_session(system)):
        latest = decision.decision_id
    if not latest:
        raise MeshError("the session has made no decision yet; wait for its first cycle")
    return latest


async def _newest_session(system: System) -> str:
    stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
    page = await stub.ListSessions(decision_pb2.ListSessionsRequest(page_size=1))
    if not page.sessions:
        raise MeshError("there is no session in this run; start one with `alphamesh session`")
    return page.sessions[0].session_id
