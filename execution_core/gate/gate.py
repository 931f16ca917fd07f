"""One account's pre-trade gate."""

from __future__ import annotations

import hashlib
from enum import IntEnum
from typing import Any, Final

import numpy as np

from execution_core.errors import CapacityError, CoreError, InvalidArrayError, InvalidValueError
from execution_core.gate import kernels, layout
from execution_core.gate.facts import InstrumentFacts, Policy, limit, within
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, PRICE_MAX, TIME_MAX
from execution_core.types import GATE_ORDER, GATE_PRICE, VERDICT, DenialReason, OrderType, Side, TradingState

Array = np.ndarray[Any, Any]


class Mode(IntEnum):
    """What an approval is: each order for itself, all or nothing, or as much of each as fits."""

    EACH = 0
    ALL = 1
    FIT = 2


_PROBLEMS: Final = {
    kernels.BAD_SIDE: ("side", "is neither BUY nor SELL"),
    kernels.BAD_LOTS: ("lots", f"is not in 1..{LOTS_MAX}"),
    kernels.BAD_PRICE: ("price", f"is not in 0..{PRICE_MAX}, or is 0 for a type with a limit price"),
    kernels.BAD_TRIGGER: ("trigger", f"is not in 0..{PRICE_MAX}"),
    kernels.BAD_TYPE: ("type", "is no OrderType"),
    kernels.BAD_EXPIRE: ("expire_ns", "is not in 0..2**62"),
    kernels.BAD_FLAGS: ("flags", "has bits beyond POST_ONLY and REDUCE_ONLY"),
}


def reasons(mask: int) -> tuple[DenialReason, ...]:
    """The reasons in a verdict's mask, the deciding one first."""
    return tuple(reason for reason in DenialReason if int(mask) >> reason & 1)


def _denials(*, market_open: bool, restricted: bool) -> int:
    closed = 0 if market_open else 1 << DenialReason.MARKET_CLOSED
    return closed | (1 << DenialReason.INSTRUMENT_RESTRICTED if restricted else 0)


class Gate:
    """Judges orders against everything that contracts.md lets deny one, and reserves what it approves.

    Holds one account: positions, reservations, limits, prices. Starts closed: HALTED, without a
    policy and without instruments. Not thread-safe: its owner is the account's single writer. It
    has no clock: `now_ns` is the session's time. Every call either does all of what it says or raises
    a CoreError with nothing changed.

    Args:
        instruments: capacity, indexes 0..instruments-1; ``grow`` raises it.
        reservations: most open orders at a time, fewer than 2**20.
        sectors: capacity of the sector table.
        recent: how many past orders DUPLICATE_ORDER and the rate limits remember at least.
    """

    def __init__(
        self, *, instruments: int = 1024, reservations: int = 4096, sectors: int = 64, recent: int = 4096
    ) -> None:
        within("instruments", instruments, 1, 2**31 - 1)
        within("reservations", reservations, 1, layout.SLOT_MASK)
        within("sectors", sectors, 1, 2**31 - 1)
        within("recent", recent, 1, 2**31 - 1)
        block, state = layout.allocate(instruments, sectors, reservations, recent)
        self._adopt(block, state)
        account = state.account[0]
        account["trading_state"] = TradingState.HALTED
        account["caught_up"] = 1
        account["free_top"] = reservations
        state.free[:] = np.arange(reservations, 0, -1)
        state.sectors["limit"] = MONEY_MAX
        for name in ("gross_limit", "net_limit", "daily_loss_limit", "drawdown_limit", "var_budget"):
            account[name] = MONEY_MAX
        account["concentration_limit"] = account["sector_limit"] = MONEY_MAX
        account["max_open_orders"] = reservations
        self._one_verdict = np.zeros(1, VERDICT)

    def _adopt(self, block: Array, state: layout.State) -> None:
        self._block = block
        self._state = state
        self._account = state.account[0]
        self._address = int(block.ctypes.data)

    # --- Judging -----------------------------------------------------------------------------

    def check(
        self,
        orders: Array,
        now_ns: int,
        *,
        mode: Mode = Mode.EACH,
        reserve: bool = True,
        out: Array | None = None,
    ) -> Array:
        """Judge orders in their row order, each seeing the reservations of those before it.

        Args:
            orders: 1-d GATE_ORDER array.
            mode: EACH judges each order for itself. ALL approves all or none. FIT approves of each
                as many lots as fit.
            reserve: reserve what is approved; False is a free pre-trade check with the same verdicts.
            out: a VERDICT array of the same length to write into.

        Returns the VERDICT array: approved orders have lots > 0. In mode ALL an order of a refused
        basket has lots 0 and, where it did not itself break a rule, an empty mask.
        """
        if orders.dtype is not GATE_ORDER and orders.dtype != GATE_ORDER:
            raise InvalidArrayError("orders", f"dtype {orders.dtype}", "pass a GATE_ORDER array")
        if out is None:
            out = np.empty(len(orders), VERDICT)
        elif (out.dtype is not VERDICT and out.dtype != VERDICT) or len(out) != len(orders):
            raise InvalidArrayError("out", f"{len(out)} x {out.dtype}", "pass a VERDICT array as long as orders")
        result = kernels.check(self._address, orders, out, now_ns, int(mode), int(reserve))
        if result < 0:
            row, code = divmod(-result - 1, 8)
            name, problem = _PROBLEMS[code]
            value = orders[row][name]
            raise InvalidValueError(f"orders[{row}].{name}", f"{value} {problem}", "correct the order")
        return out

    # --- What happens to reservations -----------------------------------------------------------

    def fill(self, reservation: int, *, instrument: int, side: Side, lots: int, price: int, fee: int = 0) -> int:
        """Turn reserved lots into position and cash.

        `price` in ticks (1 or more), `fee` in nano units (negative: a rebate). `reservation` 0 or
        already closed: a late or unsolicited fill, taken into the position all the same.
        Returns the lots that no reservation covered: 0 unless the order was overfilled or closed.
        """
        within("lots", lots, 1, LOTS_MAX)
        within("price", price, 1, PRICE_MAX)
        within("fee", fee, -MONEY_MAX, MONEY_MAX)
        within("side", side, 1, 2)
        uncovered: int = kernels.fill_one(
            self._address, int(reservation), self._index(instrument), int(side), int(lots), int(price), int(fee)
        )
        if uncovered == kernels.MISMATCH:
            raise InvalidValueError("reservation", "is another instrument's or side's", "pass the order's own handle")
        if uncovered < 0:
            raise InvalidValueError("lots", "would take the account out of its range", "see layout.MONEY_MAX")
        return uncovered

    def release(self, reservation: int, lots: int = 0) -> int:
        """Give lots of a reservation back (cancel, reject, reduced order); 0: all of them.

        Returns the lots released, at most what was reserved. A handle that is closed already
        raises InvalidValueError.
        """
        within("lots", lots, 0, LOTS_MAX)
        released: int = kernels.release_one(self._address, int(reservation), int(lots))
        if released < 0:
            raise InvalidValueError("reservation", f"{reservation} is not open", "each ends once")
        return released

    def expire(self, reservation: int) -> int:
        """The order expired: release all of its reservation."""
        return self.release(reservation)

    def rests_at(self, reservation: int, price: int) -> None:
        """The order now rests in the market at this price (a triggered stop limit); 0: no longer.

        SELF_TRADE compares with it. Limit and iceberg orders that can rest are entered by ``check``.
        """
        within("price", price, 0, PRICE_MAX)
        if kernels.rest_one(self._address, int(reservation), int(price)) < 0:
            raise InvalidValueError("reservation", f"{reservation} is not open", "each ends once")

    def reserved_lots(self, reservation: int) -> int:
        """Lots still reserved under a handle, 0 if it is closed."""
        slot = int(reservation) & layout.SLOT_MASK
        if reservation <= 0 or slot >= len(self._state.reservations):
            return 0
        row = self._state.reservations[slot]
        live = row["generation"] + 1 == int(reservation) >> layout.SLOT_BITS
        return int(row["lots"]) if live else 0

    # --- What the gate is told -------------------------------------------------------------------

    def set_instrument(self, index: int, facts: InstrumentFacts) -> None:
        """Set up an instrument, or replace its facts. Position, reservations and price stay."""
        within("index", index, 0, len(self._state.instruments) - 1)
        within("sector", facts.sector, 0, len(self._state.sectors) - 1)
        row = self._state.instruments[index]
        before = row.copy()
        row["denials"] = _denials(market_open=facts.market_open, restricted=facts.restricted)
        row["sides"]["reach_limit"] = (layout.FAR, layout.FAR if facts.shortable else 0)
        row["order_types"] = sum(1 << OrderType(kind) for kind in set(facts.order_types))
        row["max_lots"] = limit("max_lots", facts.max_lots, LOTS_MAX)
        row["max_notional"] = limit("max_notional", facts.max_notional, MONEY_MAX)
        row["position_limit"] = limit("position_limit", facts.position_limit, LOTS_MAX)
        for name in (
            "tick_value",
            "min_lots",
            "min_notional",
            "sector",
            "fee_ppm",
            "fee_per_lot",
            "var_ppm",
            "margin_long_bps",
            "margin_short_bps",
        ):
            row[name] = getattr(facts, name)
        if kernels.recount_all(self._address) < 0:
            self._state.instruments[index] = before
            kernels.recount_all(self._address)
            raise InvalidValueError("tick_value", "would take the account out of its range", "see layout.MONEY_MAX")

    def set_market(self, index: int, *, market_open: bool, restricted: bool) -> None:
        """Open or close an instrument's market; put it on or off the restricted list."""
        row = self._state.instruments[self._index(index)]
        row["denials"] = _denials(market_open=market_open, restricted=restricted)

    def restricted(self, index: int) -> bool:
        """Whether the instrument is on the restricted list."""
        return bool(self._state.instruments[self._index(index)]["denials"] & (1 << DenialReason.INSTRUMENT_RESTRICTED))

    def set_order_limits(self, *, min_notional: int, max_notional: int | None, shortable: bool) -> None:
        """One order's notional limits (nano units) and whether shorts are allowed, for every instrument.

        The execution service calls this with each risk policy, so it must stay cheap for many instruments.
        """
        within("min_notional", min_notional, 0, MONEY_MAX)
        rows = self._state.instruments
        rows["min_notional"] = min_notional
        rows["max_notional"] = limit("max_notional", max_notional, MONEY_MAX)
        rows["sides"]["reach_limit"][:, 1] = layout.FAR if shortable else 0

    def set_tick_value(self, index: int, tick_value: int) -> None:
        """A new value of a tick in the account's currency: how exchange rates reach the gate.
        Open reservations keep the cash that they reserved."""
        within("tick_value", tick_value, 1, MONEY_MAX)
        row = self._state.instruments[self._index(index)]
        before = int(row["tick_value"])
        row["tick_value"] = tick_value
        if kernels.recount_all(self._address) < 0:
            row["tick_value"] = before
            kernels.recount_all(self._address)
            raise InvalidValueError("tick_value", "would take the account out of its range", "see layout.MONEY_MAX")

    def set_price(self, index: int, price: int, ts_ns: int, *, best_bid: int = 0, best_ask: int = 0) -> None:
        """The instrument's mark (ticks, 1 or more) at `ts_ns`, and the market's best prices (0: unknown)."""
        within("price", price, 1, PRICE_MAX)
        within("ts_ns", ts_ns, 0, TIME_MAX)
        within("best_bid", best_bid, 0, PRICE_MAX)
        within("best_ask", best_ask, 0, PRICE_MAX)
        result = kernels.price_one(
            self._address, self._index(index), int(price), int(ts_ns), int(best_bid), int(best_ask)
        )
        if result < 0:
            raise InvalidValueError("price", "would take the account out of its range", "see layout.MONEY_MAX")

    def set_prices(self, updates: Array) -> None:
        """``set_price`` for each row of a GATE_PRICE array, all or none."""
        if updates.dtype != GATE_PRICE:
            raise InvalidArrayError("updates", f"dtype {updates.dtype}", "pass a GATE_PRICE array")
        low = min((int(updates[name].min(initial=0)) for name in ("best_bid", "best_ask", "ts_ns")), default=0)
        high = max(int(updates[name].max(initial=0)) for name in ("price", "best_bid", "best_ask"))
        if low < 0 or high > PRICE_MAX or int(updates["price"].min(initial=1)) < 1:
            raise InvalidValueError("updates", "a price or time is out of its range", f"ticks are 1..{PRICE_MAX}")
        done = kernels.price_many(self._address, updates)
        if done < 0:
            raise InvalidValueError(
                f"updates[{-done - 1}]", "unknown instrument, or the account would leave its range", "correct it"
            )

    def set_policy(self, policy: Policy) -> None:
        """Replace the risk policy. Resets the base of var_use to the positions held now."""
        account = self._account
        remembered = len(self._state.recent) - len(self._state.free)
        for name in ("burst_orders", "rate_orders"):
            if (getattr(policy, name) or 0) > remembered:
                raise CapacityError(name, f"exceeds the {remembered} orders remembered", "give Gate a larger `recent`")
        backup = self._block.copy()
        for name in (
            "gross_limit",
            "net_limit",
            "sector_limit",
            "concentration_limit",
            "daily_loss_limit",
            "drawdown_limit",
            "var_budget",
        ):
            account[name] = limit(name, getattr(policy, name), MONEY_MAX)
        for name in (
            "max_age_ns",
            "ts_ns",
            "version",
        ):
            account[f"policy_{name}"] = getattr(policy, name)
        for name in (
            "price_max_age_ns",
            "stale_price_reductions",
            "collar_bps",
            "var_use",
            "cash_buffer",
            "margin_long_bps",
            "margin_short_bps",
            "burst_window_ns",
            "rate_window_ns",
        ):
            account[name] = getattr(policy, name)
        account["leverage_limit_bps"] = policy.leverage_limit_bps or 0
        account["burst_orders"] = policy.burst_orders or 0
        account["rate_orders"] = policy.rate_orders or 0
        account["max_open_orders"] = policy.max_open_orders or len(self._state.free)
        self._state.sectors["limit"] = account["sector_limit"]
        self._state.instruments["var_base"] = self._state.instruments["position"]
        if kernels.recount_all(self._address) < 0:
            self._block[:] = backup
            raise InvalidValueError("policy", "its margins would take the account out of its range", "lower them")

    def set_sector_limit(self, sector: int, nano: int) -> None:
        """One sector's own limit, until the next policy."""
        within("sector", sector, 0, len(self._state.sectors) - 1)
        self._state.sectors[sector]["limit"] = within("nano", nano, 0, MONEY_MAX)

    def set_trading_state(self, state: TradingState) -> None:
        """One step of the kill ladder. Only HALTED stops reductions."""
        self._account["trading_state"] = TradingState(state)

    def set_status(self, *, caught_up: bool, reconciling: bool) -> None:
        """Whether the ledger's view is current, and whether it still reconciles with the venue."""
        self._account["caught_up"] = bool(caught_up)
        self._account["reconciling"] = bool(reconciling)

    def set_account(self, *, cash: int, day_start_equity: int, peak_equity: int) -> None:
        """Cash held, and the equities that daily loss and drawdown are measured from (nano units)."""
        within("cash", cash, -MONEY_MAX, MONEY_MAX)
        within("day_start_equity", day_start_equity, -MONEY_MAX, MONEY_MAX)
        within("peak_equity", peak_equity, -MONEY_MAX, MONEY_MAX)
        account = self._account
        account["cash"], account["day_start_equity"], account["peak_equity"] = cash, day_start_equity, peak_equity

    def set_position(self, index: int, lots: int) -> None:
        """Set a position, positive long (start, reconciliation). Cash stays."""
        within("lots", lots, -LOTS_MAX, LOTS_MAX)
        if kernels.position_one(self._address, self._index(index), int(lots)) < 0:
            raise InvalidValueError("lots", "would take the account out of its range", "see layout.MONEY_MAX")

    # --- What it knows -----------------------------------------------------------------------------

    def position(self, index: int) -> int:
        """Lots held, negative short."""
        return int(self._state.instruments[self._index(index)]["position"])

    @property
    def cash(self) -> int:
        """Nano units."""
        return int(self._account["cash"])

    @property
    def equity(self) -> int:
        """Cash and positions at their marks, nano units."""
        return int(self._account["cash"]) + int(self._account["position_value"])

    def exposure(self) -> dict[str, int]:
        """The account's sums, nano units (`open_orders`: a count). See exposure.py for their meaning."""
        names = (
            "cash",
            "position_value",
            "gross",
            "net_long",
            "net_short",
            "margin",
            "var_open",
            "reserved_cash",
            "reserved_cost",
            "open_orders",
        )
        return {name: int(self._account[name]) for name in names}

    # --- Copies ------------------------------------------------------------------------------------

    def snapshot(self) -> Array:
        """The whole state as one int64 array, for ``restore``."""
        return self._block.copy()

    def restore(self, snapshot: Array) -> None:
        """Become the gate that the snapshot was taken of. InvalidArrayError if it is none."""
        if snapshot.dtype != np.int64 or snapshot.ndim != 1 or snapshot.nbytes < layout.ACCOUNT.itemsize:
            raise InvalidArrayError("snapshot", "is no gate's state", "pass what snapshot() returned")
        block, state = layout.copy_of(snapshot)
        before = self._block, self._state
        self._adopt(block, state)
        if kernels.recount_all(self._address) < 0 or not np.array_equal(block, snapshot):
            self._adopt(*before)
            raise InvalidArrayError("snapshot", "its sums do not agree with its positions", "do not edit snapshots")

    def digest(self) -> bytes:
        """sha256 of the state, 32 bytes: equal after the same calls. The hash index is left out."""
        words = len(self._block) - len(self._state.seen)
        return hashlib.sha256(self._block[:words]).digest()

    def grow(self, *, instruments: int) -> None:
        """Raise the instrument capacity; indexes, reservations and handles stay."""
        old = self._state
        within("instruments", instruments, len(old.instruments), 2**31 - 1)
        a = self._account
        block, state = layout.allocate(
            instruments, len(old.sectors), len(old.free), len(old.recent) - len(old.free)
        )
        for table, source in zip(state, old, strict=True):
            table[: len(source)] = source
        state.account["capacity_instruments"] = instruments
        self._adopt(block, state)

    def _index(self, instrument: int) -> int:
        rows = self._state.instruments
        if not 0 <= instrument < len(rows) or not rows[instrument]["tick_value"]:
            raise InvalidValueError("instrument", f"{instrument} is not set up", "call set_instrument first")
        return int(instrument)


__all__ = ["CoreError", "Gate", "Mode", "reasons"]
