"""Parent orders: worked in child orders that pass the gate one by one, at every valuation of the account.

A parent is checked as a whole when it arrives, and then works at this desk, not at the venue. Only its
children hold exposure, so parents of many agents cannot overexpose together. Its fills are its children's.
"""

from __future__ import annotations

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.snapshots import Snapshot

from . import algorithms
from . import orders as states
from .account import Account
from .config import Config
from .desk import Desk

S = states.S


async def work(desk: Desk, config: Config, account: Account, snapshot: Snapshot) -> None:
    """Sends what is due of every parent of `account`, and ends those whose time is over."""
    now_ns = desk.ledger.now_ns
    children: list[order_pb2.OrderSpec] = []
    for order in account.open_orders():
        if not order.spec.HasField("execution_algorithm") or order.spec.instrument_id not in snapshot.instrument_ids:
            continue
        working = _working_e9(account, order)
        if now_ns >= order.spec.execution_algorithm.end_ns:
            if not working:
                desk.resolve(order, S.EXPIRED, "its schedule has ended")
            continue
        child = _child(desk, config, account, order, snapshot, working)
        if child is not None:
            children.append(child)
    if not children:
        return
    independent = execution_pb2.BASKET_MODE_INDEPENDENT
    to_send = desk.initialize(account, children, independent, "schedule")
    await desk.journal.commit()
    await desk.send(to_send)


def _child(
    desk: Desk, config: Config, account: Account, order: order_pb2.Order, snapshot: Snapshot, working_e9: int
) -> order_pb2.OrderSpec | None:
    catalogue, spec = desk.ledger.catalogue, order.spec
    name, identifier = spec.instrument_id, spec.client_order_id
    wanted = spec.execution_algorithm
    parent = algorithms.Parent(
        kind=wanted.kind,
        lots=catalogue.lots(name, order.approved_quantity_e9, "quantity_e9"),
        start_ns=wanted.start_ns,
        end_ns=wanted.end_ns,
        slices=wanted.slices,
        participation_bps=wanted.participation_bps,
        risk_aversion=wanted.risk_aversion,
    )
    column = snapshot.instrument_ids.index(name)
    lot = catalogue.quantity_e9(name, 1)
    market = algorithms.Market(
        ts_ns=snapshot.ts_event_ns,
        close=snapshot.close[:, column],
        volume=snapshot.volume[:, column] * 1e9 / lot,
        mark=snapshot.marks_e9[column] / 1e9,
        lot_value=lot / 1e9,
    )
    if identifier not in account.schedules:
        plan = algorithms.schedule(parent, market, config.impact_ppm, config.half_spread_ppm)
        event = events_pb2.OrderScheduled(
            account_id=account.account_id,
            client_order_id=identifier,
            start_ns=[start for start, _ in plan],
            quantity_e9=[catalogue.quantity_e9(name, lots) for _, lots in plan],
        )
        desk.record(event, desk.ledger.now_ns, decision_id=spec.decision_id, cause="schedule")
    plan = [(start, catalogue.lots(name, quantity, "")) for start, quantity in account.schedules[identifier]]
    committed = catalogue.lots(name, order.cumulative_quantity_e9 + working_e9, "")
    lots = algorithms.due(parent, plan, desk.ledger.now_ns, committed, market)
    if not lots:
        return None
    child = order_pb2.OrderSpec()
    child.CopyFrom(spec)
    child.ClearField("execution_algorithm")
    child.client_order_id = f"{identifier}.{len(account.children.get(identifier, ())) + 1}"
    child.parent_order_id = identifier
    child.quantity_e9 = catalogue.quantity_e9(name, lots)
    child.time_in_force = trading_pb2.TIME_IN_FORCE_DAY
    return child


def _working_e9(account: Account, parent: order_pb2.Order) -> int:
    siblings = account.children.get(parent.spec.client_order_id, ())
    return sum(account.orders[name].leaves_quantity_e9 for name in siblings)
