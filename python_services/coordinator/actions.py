"""Corporate actions of a day reach the ledger before the day's first fill: what trades then trades on new terms."""

from __future__ import annotations

import asyncio

import grpc

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import execution_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.client import persist
from python_services.kit.ids import request_id

from .clients import Clients

SOURCE = "market_data"
_PAUSE_S = 0.1


async def act(
    clients: Clients,
    decision_id: str,
    spec: decision_pb2.SessionSpec,
    *,
    previous_ns: int,
    close_ns: int,
    patience_s: float,
) -> None:
    """Applies those with previous < ex-day's close <= close, each once however often this is repeated."""
    asked = marketdata_pb2.ListCorporateActionsRequest(
        instrument_ids=spec.instrument_ids, start_ns=previous_ns, end_ns=close_ns
    )
    found = await persist(lambda: clients.market_data.ListCorporateActions(asked), patience_s)
    if found.actions:
        request = execution_pb2.ApplyCorporateActionsRequest(
            request_id=request_id(decision_id, "actions"),
            account_id=spec.account_id,
            actions=[_terms(action) for action in found.actions],
        )
        await _apply(clients, request, patience_s)


async def _apply(clients: Clients, request: execution_pb2.ApplyCorporateActionsRequest, patience_s: float) -> None:
    """A split waits for orders that the venue has not answered for."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + patience_s
    while True:
        try:
            await persist(lambda: clients.execution.ApplyCorporateActions(request), patience_s)
            return
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.ABORTED or loop.time() > give_up:
                raise
        await asyncio.sleep(_PAUSE_S)


def _terms(action: marketdata_pb2.CorporateAction) -> execution_pb2.CorporateAction:
    message = execution_pb2.CorporateAction(
        action_id=action.action_id,
        instrument_id=action.instrument_id,
        ts_event_ns=action.ts_event_ns,
        source=SOURCE,
    )
    if action.HasField("split"):
        terms = action.split
        message.split.CopyFrom(
            execution_pb2.Split(
                new_shares=terms.new_shares, old_shares=terms.old_shares, fraction_price_e9=terms.price_after_e9
            )
        )
    else:
        message.cash_dividend.CopyFrom(execution_pb2.CashDividend(per_share=action.cash_dividend))
    return message
