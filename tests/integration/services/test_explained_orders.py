"""`alphamesh explain <client_order_id>`: any order, whoever asked for it and however it ended."""

from __future__ import annotations

from alphamesh.execution.v1 import execution_pb2
from alphamesh.type.v1 import trading_pb2
from mesh import order_story
from python_services.local import LocalSystem

from .conftest import ACCOUNT, E9, Trader, market_order, new_id


async def test_an_order_of_nobody_knows_why_it_was_denied(system: LocalSystem, trader: Trader) -> None:
    await trader.submit(market_order("too-much", "AAPL", 10**6))
    story = await order_story.find(system, "too-much")
    assert story is not None
    assert story["order"]["state"] == "DENIED"
    assert story["decision"] is None
    assert "not by a decision" in story["why"][0]
    assert story["why"][1].startswith("gate: denied, ")
    reasons = story["order"]["denial_reasons"]
    assert reasons
    assert all(reason in story["why"][1] for reason in reasons)
    assert [event["event"] for event in story["events"]] == ["OrderInitialized"]
    order_story.show(story)


async def test_an_order_is_told_from_the_gate_to_the_fill(system: LocalSystem, trader: Trader) -> None:
    await trader.submit(market_order("mine", "AAPL", 100), market_order("other", "AAPL", 7))
    await trader.next_day()
    story = await order_story.find(system, "mine")
    assert story is not None
    assert [event["event"] for event in story["events"]] == ["OrderInitialized", "OrderStateChanged", "OrderFilled"]
    assert story["events"][0]["what"] == "approved 100, under risk policy 1"
    assert story["events"][1]["what"] == "SUBMITTED to ACCEPTED"
    assert story["events"][2]["what"].startswith("100 at ")
    assert [event["seq"] for event in story["events"]] == sorted(event["seq"] for event in story["events"])


async def test_a_cancelled_order_and_one_that_nobody_knows(system: LocalSystem, trader: Trader) -> None:
    far = {"order_type": trading_pb2.ORDER_TYPE_LIMIT, "time_in_force": trading_pb2.TIME_IN_FORCE_GTC}
    await trader.submit(market_order("far", "AAPL", 10, price_e9=135 * E9, decision_id="no-such-decision", **far))
    await trader.execution.CancelAllOrders(
        execution_pb2.CancelAllOrdersRequest(request_id=new_id(), account_id=ACCOUNT, reason="lunch")
    )
    story = await order_story.find(system, "far")
    assert story is not None
    assert story["order"]["state"] == "CANCELED"
    assert "no-such-decision" in story["why"][0]
    assert "CANCELED" in story["events"][-1]["what"]
    assert await order_story.find(system, "nobody") is None
