"""Parent orders through the running system: schedules on real bars, children through the gate."""

from __future__ import annotations

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.convert import money_e9

from .conftest import ACCOUNT, E9, Trader, market_order, new_id, usd

Kind = order_pb2.ExecutionAlgorithm.Kind
State = order_pb2.OrderState
PARENT = "p"


def algorithm(trader: Trader, kind: Kind.ValueType, bars: int, **fields: object) -> order_pb2.ExecutionAlgorithm:
    """From now until just after `bars` more closes."""
    start, end = trader.days[trader.today], trader.days[trader.today + bars] + 1
    return order_pb2.ExecutionAlgorithm(kind=kind, start_ns=start, end_ns=end, **fields)  # type: ignore[arg-type]


async def orders(trader: Trader) -> dict[str, order_pb2.Order]:
    listed = await trader.execution.ListOrders(execution_pb2.ListOrdersRequest(account_id=ACCOUNT))
    return {order.spec.client_order_id: order for order in listed.orders}


async def children(trader: Trader) -> list[order_pb2.Order]:
    return [order for order in (await orders(trader)).values() if order.spec.parent_order_id == PARENT]


async def test_twap_spreads_equal_children_over_the_days(trader: Trader) -> None:
    spec = market_order(PARENT, "IBM", 1_000, execution_algorithm=algorithm(trader, Kind.KIND_TWAP, 5, slices=4))
    [parent] = await trader.submit(spec)
    assert (parent.state, parent.reason) == (State.ORDER_STATE_ACCEPTED, "worked in child orders")
    assert money_e9((await trader.account()).account.reserved) == 0
    for _ in range(6):
        account = await trader.next_day()
    sizes = [child.spec.quantity_e9 // E9 for child in await children(trader)]
    assert sum(sizes) == 1_000
    assert max(sizes) <= 500
    assert len(sizes) >= 3
    parent = (await orders(trader))[PARENT]
    assert (parent.state, parent.cumulative_quantity_e9) == (State.ORDER_STATE_FILLED, 1_000 * E9)
    assert account.positions[0].quantity_e9 == 1_000 * E9
    fills = (await trader.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))).fills
    assert len({fill.ts_event_ns for fill in fills}) >= 3
    assert money_e9(parent.cumulative_notional) == sum(f.price_e9 * f.quantity_e9 // E9 for f in fills)


async def test_every_algorithm_completes_its_parent(trader: Trader) -> None:
    kinds = {
        Kind.KIND_VWAP: {"slices": 4},
        Kind.KIND_POV: {"participation_bps": 100},
        Kind.KIND_IMPLEMENTATION_SHORTFALL: {"slices": 4, "risk_aversion": 1e-6},
    }
    for kind, fields in kinds.items():
        name = Kind.Name(kind).removeprefix("KIND_").lower()
        spec = market_order(name, "MSFT", 2_000, execution_algorithm=algorithm(trader, kind, 8, **fields))
        [parent] = await trader.submit(spec)
        assert parent.state == State.ORDER_STATE_ACCEPTED, name
    for _ in range(10):
        await trader.next_day()
    found = await orders(trader)
    for kind in kinds:
        name = Kind.Name(kind).removeprefix("KIND_").lower()
        parts = [o for o in found.values() if o.spec.parent_order_id == name]
        assert found[name].state == State.ORDER_STATE_FILLED, name
        assert sum(child.cumulative_quantity_e9 for child in parts) == 2_000 * E9, name


async def test_implementation_shortfall_hurries_when_risk_is_disliked(trader: Trader) -> None:
    async def first_child(name: str, aversion: float) -> int:
        wanted = algorithm(trader, Kind.KIND_IMPLEMENTATION_SHORTFALL, 10, slices=5, risk_aversion=aversion)
        await trader.submit(market_order(name, "IBM", 5_000, execution_algorithm=wanted))
        await trader.next_day()
        return (await orders(trader))[f"{name}.1"].spec.quantity_e9 // E9

    assert await first_child("calm", 0.0) < await first_child("hurried", 1e-3)


async def test_children_pass_the_gate_one_by_one(trader: Trader) -> None:
    wanted = algorithm(trader, Kind.KIND_TWAP, 5, slices=2)
    await trader.submit(market_order(PARENT, "IBM", 1_000, execution_algorithm=wanted))
    await trader.allow(gross_exposure_limit=usd(1_000))
    await trader.next_day()
    [child] = await children(trader)
    assert child.state == State.ORDER_STATE_DENIED
    assert order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT in child.denial_reasons


async def test_cancelling_a_parent_cancels_its_children_and_a_restart_changes_nothing(trader: Trader) -> None:
    wanted = algorithm(trader, Kind.KIND_TWAP, 6, slices=6)
    await trader.submit(market_order(PARENT, "IBM", 600, execution_algorithm=wanted))
    await trader.next_day()
    await trader.next_day()
    before = await trader.account()
    await trader.system.stop("execution")
    await trader.system.start("execution")
    assert await trader.account() == before
    canceled = await trader.execution.CancelOrder(
        execution_pb2.CancelOrderRequest(request_id=new_id(), account_id=ACCOUNT, client_order_id=PARENT)
    )
    assert canceled.order.state == State.ORDER_STATE_CANCELED
    assert {c.state for c in await children(trader)} <= {State.ORDER_STATE_FILLED, State.ORDER_STATE_CANCELED}
    position = (await trader.next_day()).positions[0].quantity_e9
    assert position == canceled.order.cumulative_quantity_e9


async def test_a_parent_whose_time_is_over_expires(trader: Trader) -> None:
    limit = market_order(
        PARENT, "IBM", 100, order_type=trading_pb2.ORDER_TYPE_LIMIT, price_e9=95 * E9,
        execution_algorithm=algorithm(trader, Kind.KIND_TWAP, 3, slices=3),
    )  # fmt: skip
    await trader.submit(limit)
    for _ in range(5):
        await trader.next_day()
    parent = (await orders(trader))[PARENT]
    assert (parent.state, parent.reason) == (State.ORDER_STATE_EXPIRED, "its schedule has ended")
