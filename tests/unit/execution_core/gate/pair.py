"""The gate and its twin side by side: every call goes to both, and they must agree after each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from execution_core.gate import Gate, InstrumentFacts, Mode, Policy
from execution_core.types import GATE_ORDER, GATE_PRICE, Side, TradingState
from tests.unit.execution_core.gate.twin import Instrument, Order, Twin, Verdict

FIELDS = (
    "instrument",
    "side",
    "type",
    "lots",
    "price",
    "trigger",
    "time_in_force",
    "flags",
    "expire_ns",
    "client_order_hash",
)


def as_rows(orders: Sequence[Order]) -> np.ndarray[Any, Any]:
    """The orders as a GATE_ORDER array."""
    rows = np.zeros(len(orders), GATE_ORDER)
    for row, order in zip(rows, orders, strict=True):
        for name in FIELDS:
            row[name] = getattr(order, name)
    return rows


class Pair:
    """Both gates under one set of calls. Reservations go by the twin's numbers, 1, 2, 3, ..."""

    def __init__(self, *, instruments: int = 4, reservations: int = 64, sectors: int = 4, recent: int = 60) -> None:
        self.gate = Gate(instruments=instruments, reservations=reservations, sectors=sectors, recent=recent)
        ring = 1 << (recent + reservations - 1).bit_length()
        self.twin = Twin(capacity=reservations, memory=ring - reservations)
        self.handles: dict[int, int] = {0: 0}

    def agree(self) -> None:
        assert self.gate.exposure() == self.twin.exposure()
        assert self.gate.equity == self.twin.equity
        for index, i in self.twin.instruments.items():
            assert self.gate.position(index) == i.position
        for number, handle in self.handles.items():
            held = self.twin.open[number].lots if number in self.twin.open else 0
            assert self.gate.reserved_lots(handle) == held

    def set_instrument(self, index: int, facts: InstrumentFacts) -> None:
        self.gate.set_instrument(index, facts)
        old = self.twin.instruments.get(index)
        if old is None:
            self.twin.instruments[index] = Instrument(facts)
        else:
            old.facts = facts
        self.agree()

    def set_prices(self, rows: Sequence[tuple[int, int, int, int, int]]) -> None:
        """Rows of (index, price, ts_ns, best bid, best ask)."""
        updates = np.zeros(len(rows), GATE_PRICE)
        for update, (index, price, ts_ns, bid, ask) in zip(updates, rows, strict=True):
            update["instrument"], update["price"], update["ts_ns"] = index, price, ts_ns
            update["best_bid"], update["best_ask"] = bid, ask
            i = self.twin.instruments[index]
            i.mark, i.mark_ts_ns, i.best_bid, i.best_ask = price, ts_ns, bid, ask
        self.gate.set_prices(updates)
        self.agree()

    def set_price(self, index: int, price: int, ts_ns: int, *, best_bid: int = 0, best_ask: int = 0) -> None:
        self.gate.set_price(index, price, ts_ns, best_bid=best_bid, best_ask=best_ask)
        i = self.twin.instruments[index]
        i.mark, i.mark_ts_ns, i.best_bid, i.best_ask = price, ts_ns, best_bid, best_ask
        self.agree()

    def set_policy(self, policy: Policy) -> None:
        self.gate.set_policy(policy)
        self.twin.set_policy(policy)
        self.agree()

    def set_trading_state(self, state: TradingState) -> None:
        self.gate.set_trading_state(state)
        self.twin.trading_state = state

    def set_status(self, *, caught_up: bool, reconciling: bool) -> None:
        self.gate.set_status(caught_up=caught_up, reconciling=reconciling)
        self.twin.caught_up, self.twin.reconciling = caught_up, reconciling

    def set_account(self, *, cash: int, day_start_equity: int, peak_equity: int) -> None:
        self.gate.set_account(cash=cash, day_start_equity=day_start_equity, peak_equity=peak_equity)
        self.twin.cash = cash
        self.twin.day_start_equity, self.twin.peak_equity = day_start_equity, peak_equity
        self.agree()

    def set_position(self, index: int, lots: int) -> None:
        self.gate.set_position(index, lots)
        self.twin.instruments[index].position = lots
        self.agree()

    def check(
        self, orders: Sequence[Order], now_ns: int, *, mode: Mode = Mode.EACH, reserve: bool = True
    ) -> list[Verdict]:
        before = self.gate.digest()
        rows = as_rows(orders)
        free = self.gate.check(rows, now_ns, mode=mode, reserve=False)
        assert self.gate.digest() == before, "a check without reserving changed the state"
        ours = self.gate.check(rows, now_ns, mode=mode, reserve=reserve)
        theirs = self.twin.check(orders, now_ns, mode, reserve)
        assert free[["mask", "lots", "reason"]].tolist() == ours[["mask", "lots", "reason"]].tolist()
        for k, (our, their) in enumerate(zip(ours, theirs, strict=True)):
            mine = Verdict(mask=int(our["mask"]), lots=int(our["lots"]))
            assert (mine.reasons, mine.lots) == (their.reasons, their.lots), f"order {k}: {orders[k]}"
            assert bool(our["reservation"]) == bool(their.reservation)
            lowest = min(their.reasons, default=0)
            assert our["reason"] == lowest
            if their.reservation:
                self.handles[their.reservation] = int(our["reservation"])
        self.agree()
        return theirs

    def exchange(self, number: int, order: Order, now_ns: int) -> Verdict:
        before = self.gate.digest()
        ours = self.gate.exchange(self.handles[number], as_rows([order]), now_ns)[0]
        theirs = self.twin.exchange(number, order, now_ns)
        assert (int(ours["mask"]), int(ours["lots"])) == (theirs.mask, theirs.lots)
        if theirs.reservation:
            self.handles[theirs.reservation] = int(ours["reservation"])
        else:
            assert self.gate.digest() == before, "a denied exchange changed the state"
        self.agree()
        return theirs

    def fill(self, number: int, index: int, side: int, lots: int, price: int, fee: int = 0) -> int:
        ours = self.gate.fill(self.handles[number], instrument=index, side=Side(side), lots=lots, price=price, fee=fee)
        theirs = self.twin.fill(number, index, side, lots, price, fee)
        assert ours == theirs
        self.agree()
        return ours

    def release(self, number: int, lots: int = 0) -> int:
        ours = self.gate.release(self.handles[number], lots)
        assert ours == self.twin.release(number, lots)
        self.agree()
        return ours
