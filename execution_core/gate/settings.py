"""What one account's gate holds and is told: its memory, the facts, the policy, prices and positions."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from execution_core.errors import CapacityError, InvalidArrayError, InvalidValueError
from execution_core.gate import kernels, layout
from execution_core.gate.facts import InstrumentFacts, Policy, limit, within
from execution_core.gate.layout import FAR, LOTS_MAX, MONEY_MAX, PRICE_MAX, TIME_MAX, Array
from execution_core.types import GATE_PRICE, DenialReason, OrderType, TradingState

_MONEY_LIMITS: Final = (
    "gross_limit",
    "net_limit",
    "sector_limit",
    "concentration_limit",
    "daily_loss_limit",
    "drawdown_limit",
    "var_budget",
)
_POLICY_FIELDS: Final = (
    "price_max_age_ns",
    "stale_price_reductions",
    "collar_bps",
    "var_use",
    "cash_buffer",
    "margin_long_bps",
    "margin_short_bps",
    "burst_window_ns",
    "rate_window_ns",
    "fee_per_order",
)
_FACTS: Final = (
    "tick_value",
    "min_lots",
    "min_notional",
    "sector",
    "fee_ppm",
    "fee_per_lot",
    "var_ppm",
    "margin_long_bps",
    "margin_short_bps",
)
_OUT_OF_RANGE: Final = "would take the account out of its range"
_SEE: Final = "see layout.MONEY_MAX"
_RESTRICTED: Final = 1 << DenialReason.INSTRUMENT_RESTRICTED
_CLOSED: Final = 1 << DenialReason.MARKET_CLOSED


class Settings:
    """The gate's memory and everything that is set in it from outside. ``Gate`` adds the judging."""

    def __init__(self, *, instruments: int, reservations: int, sectors: int, recent: int) -> None:
        within("instruments", instruments, 1, 2**31 - 1)
        within("reservations", reservations, 1, layout.SLOT_MASK)
        within("sectors", sectors, 1, 2**31 - 1)
        within("recent", recent, 1, 2**31 - 1)
        self._call = kernels.calls()
        self._place = np.zeros(1, np.int64)
        block, state = layout.allocate(instruments, sectors, reservations, recent)
        self._adopt(block, state)
        account = state.account[0]
        account["trading_state"] = TradingState.HALTED
        account["caught_up"] = 1
        account["max_open_orders"] = reservations
        state.sectors["limit"] = MONEY_MAX
        for name in _MONEY_LIMITS:
            account[name] = MONEY_MAX

    @property
    def place(self) -> int:
        """Address of the word that holds the address of the state, which `restore` and `grow` move."""
        return int(self._place.ctypes.data)

    def _adopt(self, block: Array, state: layout.State) -> None:
        self._block = block
        self._state = state
        self._account = state.account[0]
        self._address = int(block.ctypes.data)
        self._place[0] = self._address

    # --- Instruments -----------------------------------------------------------------------------

    def set_instrument(self, index: int, facts: InstrumentFacts) -> None:
        """Set up an instrument, or replace its facts. Position, reservations and price stay."""
        within("index", index, 0, len(self._state.instruments) - 1)
        within("sector", facts.sector, 0, len(self._state.sectors) - 1)
        after = self._state.instruments[index : index + 1].copy()
        row = after[0]
        row["denials"] = _denials(market_open=facts.market_open, restricted=facts.restricted)
        row["sides"]["reach_limit"] = (FAR, FAR if facts.shortable else 0)
        row["order_types"] = sum(1 << OrderType(kind) for kind in set(facts.order_types))
        row["max_lots"] = limit("max_lots", facts.max_lots, LOTS_MAX)
        row["max_notional"] = limit("max_notional", facts.max_notional, MONEY_MAX)
        row["position_limit"] = limit("position_limit", facts.position_limit, LOTS_MAX)
        for name in _FACTS:
            row[name] = getattr(facts, name)
        self._replace(index, after)

    def set_tick_value(self, index: int, tick_value: int, *, fee_per_lot: int | None = None) -> None:
        """A new value of a tick in the account's currency, and the fee of a lot where it has another, too: how
        exchange rates reach the gate. Open reservations keep the cash that they reserved."""
        self.known(index)
        after = self._state.instruments[index : index + 1].copy()
        after["tick_value"] = within("tick_value", tick_value, 1, MONEY_MAX)
        if fee_per_lot is not None:
            after["fee_per_lot"] = within("fee_per_lot", fee_per_lot, 0, MONEY_MAX)
        self._replace(index, after)

    def _replace(self, index: int, after: Array) -> None:
        before = self._state.instruments[index : index + 1].copy()
        if self._call.facts(self._address, index, before, after) < 0:
            raise InvalidValueError("tick_value", _OUT_OF_RANGE, _SEE)

    def set_market(self, index: int, *, market_open: bool, restricted: bool) -> None:
        """Open or close an instrument's market; put it on or off the restricted list."""
        row = self._state.instruments[self.known(index)]
        row["denials"] = _denials(market_open=market_open, restricted=restricted)

    def restricted(self, index: int) -> bool:
        """Whether the instrument is on the restricted list."""
        return bool(self._state.instruments[self.known(index)]["denials"] & _RESTRICTED)

    def set_order_limits(self, *, min_notional: int, max_notional: int | None, shortable: bool) -> None:
        """One order's notional limits (nano units) and whether shorts are allowed, for every instrument.

        The execution service calls this with each risk policy, so it must stay cheap for many instruments.
        """
        within("min_notional", min_notional, 0, MONEY_MAX)
        highest = limit("max_notional", max_notional, MONEY_MAX)
        rows = self._state.instruments
        rows["min_notional"] = min_notional
        rows["max_notional"] = highest
        rows["sides"]["reach_limit"][:, 1] = FAR if shortable else 0

    # --- Prices ----------------------------------------------------------------------------------

    def set_price(self, index: int, price: int, ts_ns: int, *, best_bid: int = 0, best_ask: int = 0) -> None:
        """The instrument's mark (ticks, 1 or more) at `ts_ns`, and the market's best prices (0: unknown)."""
        within("price", price, 1, PRICE_MAX)
        within("ts_ns", ts_ns, 0, TIME_MAX)
        within("best_bid", best_bid, 0, PRICE_MAX)
        within("best_ask", best_ask, 0, PRICE_MAX)
        if self._call.price(self._address, self.known(index), price, ts_ns, best_bid, best_ask) < 0:
            raise InvalidValueError("price", _OUT_OF_RANGE, _SEE)

    def set_prices(self, updates: Array) -> None:
        """``set_price`` for each row of a GATE_PRICE array, all or none."""
        if updates.dtype != GATE_PRICE or updates.ndim != 1:
            raise InvalidArrayError("updates", f"{updates.ndim}-d {updates.dtype}", "pass a 1-d GATE_PRICE array")
        lowest = {"price": 1, "ts_ns": 0, "best_bid": 0, "best_ask": 0}
        for name, low in lowest.items():
            high = TIME_MAX if name == "ts_ns" else PRICE_MAX
            values = updates[name]
            if int(values.min(initial=low)) < low or int(values.max(initial=low)) > high:
                raise InvalidValueError(f"updates.{name}", f"not all are in {low}..{high}", "correct them")
        done = self._call.prices(self._address, updates)
        if done < 0:
            row = -done - 1
            problem = "unknown instrument, or the account would leave its range"
            raise InvalidValueError(f"updates[{row}]", problem, "call set_instrument first; see layout.MONEY_MAX")

    # --- Policy and status -------------------------------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """Replace the risk policy. Resets the base of var_use to the positions held now."""
        remembered = self._account["capacity_recent"] - self._account["capacity_reservations"]
        for name in ("burst_orders", "rate_orders"):
            if (getattr(policy, name) or 0) > remembered:
                raise CapacityError(name, f"exceeds the {remembered} orders remembered", "give Gate a larger `recent`")
        tables = (self._state.account, self._state.instruments, self._state.sectors)
        backup = [table.copy() for table in tables]
        account = self._account
        for name in _MONEY_LIMITS:
            account[name] = limit(name, getattr(policy, name), MONEY_MAX)
        for name in ("version", "ts_ns", "max_age_ns"):
            account[f"policy_{name}"] = getattr(policy, name)
        for name in _POLICY_FIELDS:
            account[name] = getattr(policy, name)
        for name in ("leverage_limit_bps", "burst_orders", "rate_orders"):
            account[name] = getattr(policy, name) or 0
        account["max_open_orders"] = policy.max_open_orders or account["capacity_reservations"]
        self._state.sectors["limit"] = account["sector_limit"]
        self._state.instruments["var_base"] = self._state.instruments["position"]
        if self._call.recount(self._address) < 0:
            for table, saved in zip(tables, backup, strict=True):
                table[:] = saved
            raise InvalidValueError("policy.margin_long_bps", f"or the short rate {_OUT_OF_RANGE}", "lower it")

    def set_sector_limit(self, sector: int, nano: int) -> None:
        """One sector's own limit, until the next policy."""
        within("sector", sector, 0, len(self._state.sectors) - 1)
        self._state.sectors[sector]["limit"] = within("nano", nano, 0, MONEY_MAX)

    def set_trading_state(self, state: TradingState) -> None:
        """One step of the kill ladder. Only HALTED stops reductions."""
        self._account["trading_state"] = TradingState(state)

    def set_status(self, *, caught_up: bool, reconciling: bool) -> None:
        """Whether the ledger's view is current, and whether it still reconciles with the venue. While it
        is behind, or reconciles, only reductions pass."""
        self._account["caught_up"] = bool(caught_up)
        self._account["reconciling"] = bool(reconciling)

    # --- Money and positions -----------------------------------------------------------------------

    def set_account(self, *, cash: int, day_start_equity: int, peak_equity: int) -> None:
        """Cash held, and the equities that daily loss and drawdown are measured from (nano units)."""
        account = self._account
        amounts = {"cash": cash, "day_start_equity": day_start_equity, "peak_equity": peak_equity}
        for name, amount in amounts.items():
            within(name, amount, -MONEY_MAX, MONEY_MAX)
        for name, amount in amounts.items():
            account[name] = amount

    def set_position(self, index: int, lots: int) -> None:
        """Set a position, positive long (start, reconciliation). Cash stays."""
        within("lots", lots, -LOTS_MAX, LOTS_MAX)
        if self._call.position(self._address, self.known(index), lots) < 0:
            raise InvalidValueError("lots", _OUT_OF_RANGE, _SEE)

    def position(self, index: int) -> int:
        """Lots held, negative short."""
        return int(self._state.instruments[self.known(index)]["position"])

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

    def worst_case(self) -> tuple[int, int, Array]:
        """(cash that is not reserved, gross exposure, worst-case value of each instrument): what limits hold
        down, for a check at every event; `exposure` has it all."""
        account, rows = self._account, self._state.instruments
        return int(account["cash"]) - int(account["reserved_cash"]), int(account["gross"]), rows["worst"] * rows["unit"]

    # --- Copies ------------------------------------------------------------------------------------

    def snapshot(self) -> Array:
        """The whole state as one int64 array, for ``restore``."""
        self._call.quotes(self._address)
        return self._block.copy()

    def restore(self, snapshot: Array) -> None:
        """Become the gate that the snapshot was taken of. InvalidArrayError if it is none."""
        if snapshot.dtype != np.int64 or snapshot.ndim != 1 or snapshot.nbytes < layout.ACCOUNT.itemsize:
            raise InvalidArrayError("snapshot", "is no gate's state", "pass what snapshot() returned")
        block, state = layout.copy_of(snapshot)
        if self._call.recount(int(block.ctypes.data)) < 0 or not np.array_equal(block, snapshot):
            raise InvalidArrayError("snapshot", "its sums do not agree with its positions", "do not edit snapshots")
        self._adopt(block, state)

    def digest(self) -> bytes:
        """sha256 of the state, 32 bytes: equal after the same calls. The index of ids is left out."""
        self._call.quotes(self._address)
        words = int(self._account["at_seen"]) // layout.WORD
        return hashlib.sha256(self._block[:words].data).digest()

    def grow(self, *, instruments: int) -> None:
        """Raise the instrument capacity; indexes, reservations and handles stay."""
        old = self._state
        within("instruments", instruments, len(old.instruments), 2**31 - 1)
        reservations = int(self._account["capacity_reservations"])
        block, state = layout.allocate(instruments, len(old.sectors), reservations, len(old.recent) - reservations)
        account = state.account.copy()
        for table, source in zip(state, old, strict=True):
            table[: len(source)] = source
        for name in layout.PLACES:
            state.account[name] = account[name]
        self._adopt(block, state)

    def known(self, instrument: int) -> int:
        rows = self._state.instruments
        if not 0 <= instrument < len(rows) or not rows[instrument]["tick_value"]:
            raise InvalidValueError("instrument", f"{instrument} is not set up", "call set_instrument first")
        return instrument


def _denials(*, market_open: bool, restricted: bool) -> int:
    """The reasons that deny every order of an instrument."""
    return (0 if market_open else _CLOSED) | (_RESTRICTED if restricted else 0)
