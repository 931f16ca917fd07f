"""The pre-trade gate of one account, spoken to in contract units (e9 integers, instrument ids).

The gate knows one currency, the account's. An instrument of another has its tick and its fees converted at the rate
of the last valuation, rounded up, and no price while there is no rate: orders in it are PRICE_STALE then, as they are
when the rate is too old. Its orders reserve `fx_buffer_ppm` of their value on top, for what the rate may do before
they fill.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidValueError
from execution_core.gate import Gate, InstrumentFacts, Mode, Policy, reasons
from execution_core.gate.layout import LOTS_MAX, PRICE_MAX
from execution_core.types import GATE_ORDER, GATE_PRICE, DenialReason, OrderFlag, OrderType, TradingState
from python_services.kit.currency import Rate

Indexes = NDArray[np.int64]

BPS = 10_000
UNKNOWN = -1
ORDERS_PER_INSTRUMENT = 4
# A converted tick of a lot that is worth less has too few digits: rounding would be more than 1 basis point.
SMALLEST_TICK_VALUE = 10_000


class ReplayError(RuntimeError):
    """The gate judges a recorded order otherwise than when it was recorded."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """An instrument as the gate needs it."""

    instrument_id: str
    tick_e9: int
    lot_e9: int
    tick_value: int
    sector: str
    currency: str


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An order put to the gate, in ticks and lots."""

    client_order_id: str
    instrument_id: str
    side: int
    order_type: int
    time_in_force: int
    lots: int
    price: int = 0
    trigger: int = 0
    expire_ns: int = 0
    post_only: bool = False
    reduce_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the gate said: approved lots (0 = denied), the handle of the reservation, all reasons."""

    lots: int
    reservation: int
    reasons: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A risk policy, money in nano units."""

    version: int
    ts_ns: int
    max_age_ns: int
    price_max_age_ns: int
    trading_state: int
    gross_limit: int
    net_limit: int
    position_limit: int
    sector_limit: int
    order_minimum: int
    order_maximum: int
    daily_loss_limit: int
    drawdown_bps: int
    collar_bps: int
    leverage_bps: int
    concentration_bps: int
    orders_per_second: int
    short_allowed: bool
    restricted: frozenset[str]
    var_budget: int | None
    var_used: int


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What the invariants are about, nano units: `worst` by instrument, reservations and open orders included."""

    free: int
    gross: int
    worst: NDArray[np.int64]


class Gatekeeper:
    """Owns a Gate, knows its dense indexes, and keeps the figures that limits are measured from."""

    def __init__(
        self,
        listings: Sequence[Listing],
        *,
        currency: str,
        cash: int,
        fee_ppm: int,
        fee_per_lot: int,
        minimum_fee: int,
        open_orders: int,
        remembered_orders: int,
        fx_buffer_ppm: int = 0,
    ) -> None:
        self._listings = list(listings)
        self.capacity = open_orders
        self._index = {listing.instrument_id: i for i, listing in enumerate(listings)}
        sectors = sorted({listing.sector for listing in listings})
        self._gate = Gate(
            instruments=max(len(listings), 1),
            reservations=open_orders,
            sectors=max(len(sectors), 1),
            recent=max(open_orders, remembered_orders),
        )
        self._remembered = max(open_orders, remembered_orders)
        for index, listing in enumerate(listings):
            facts = InstrumentFacts(
                tick_value=listing.tick_value,
                sector=sectors.index(listing.sector),
                fee_ppm=fee_ppm if listing.currency == currency else fee_ppm + fx_buffer_ppm,
                fee_per_lot=fee_per_lot,
            )
            self._gate.set_instrument(index, facts)
        self._fee_per_lot, self._minimum_fee = fee_per_lot, minimum_fee
        self._foreign = {i: listing for i, listing in enumerate(listings) if listing.currency != currency}
        self._rates: dict[str, tuple[Rate, int]] = {}
        # When the rate is of, for foreign instruments that can be converted.
        self._rate_ts: dict[int, int] = {}
        self._rules: Rules | None = None
        self._restricted: frozenset[str] = frozenset()
        self._caps: tuple[int, int] | None = None
        self._operator_state = int(TradingState.ACTIVE)
        self._day_start = self._peak = cash
        self._gate.set_account(cash=cash, day_start_equity=cash, peak_equity=cash)
        self._gate.set_trading_state(TradingState.ACTIVE)

    @property
    def trading_state(self) -> int:
        """State in force: the stricter of the operator's and the policy's."""
        wanted = self._rules.trading_state if self._rules is not None else int(TradingState.ACTIVE)
        return max(self._operator_state, wanted)

    @property
    def price_max_age_ns(self) -> int | None:
        """How old a price may be; None before the first policy."""
        return self._rules.price_max_age_ns if self._rules is not None else None

    @property
    def cash(self) -> int:
        """Cash as the gate knows it, nano units."""
        return self._gate.cash

    @property
    def reserved_cash(self) -> int:
        """Cash held for open buy orders, nano units."""
        return self._gate.exposure()["reserved_cash"]

    def check(
        self,
        asks: Sequence[Ask],
        now_ns: int,
        *,
        mode: Mode = Mode.EACH,
        reserve: bool,
        instead_of: Sequence[int] = (),
    ) -> list[Answer]:
        """Judges orders in order, each in the place of the reservation that `instead_of` names, 0 for none.

        Raises CoreError for values that no gate could hold, with nothing changed.
        """
        rows = self._rows(asks)
        if not any(instead_of):
            return _answers(self._gate.check(rows, now_ns, mode=mode, reserve=reserve))
        before = self._gate.snapshot()
        try:
            verdicts = np.concatenate(
                [self._judge(rows[i : i + 1], now_ns, mode, instead_of[i]) for i in range(len(rows))]
            )
        except BaseException:
            self._gate.restore(before)
            raise
        refused = mode is Mode.ALL and not verdicts["lots"].all()
        if refused:
            verdicts["lots"] = 0
        if refused or not reserve:
            verdicts["reservation"] = 0
            self._gate.restore(before)
        return _answers(verdicts)

    def _judge(self, row: NDArray[np.void], now_ns: int, mode: Mode, instead_of: int) -> NDArray[np.void]:
        """One order of a basket; in the place of a reservation it passes in whole or not at all."""
        if instead_of:
            return self._gate.exchange(instead_of, row, now_ns)
        return self._gate.check(row, now_ns, mode=Mode.FIT if mode is Mode.FIT else Mode.EACH)

    def _rows(self, asks: Sequence[Ask]) -> NDArray[np.void]:
        rows = np.zeros(len(asks), GATE_ORDER)
        for row, ask in zip(rows, asks, strict=True):
            flags = (OrderFlag.POST_ONLY if ask.post_only else 0) | (OrderFlag.REDUCE_ONLY if ask.reduce_only else 0)
            row["client_order_hash"] = _hash(ask.client_order_id)
            row["lots"], row["price"], row["trigger"] = ask.lots, ask.price, ask.trigger
            row["expire_ns"] = ask.expire_ns
            row["instrument"] = self._index.get(ask.instrument_id, UNKNOWN)
            row["side"], row["type"], row["time_in_force"] = ask.side, ask.order_type, ask.time_in_force
            row["flags"] = flags
        return rows

    def check_rows(self, rows: NDArray[np.void]) -> None:
        """Raises CoreError for GATE_ORDER rows that `reserve` could not take; changes nothing."""
        lots, price = rows["lots"], rows["price"]
        wrong = (lots < 1) | (lots > LOTS_MAX) | (price > PRICE_MAX)
        if not wrong.any():
            return
        row = int(np.argmax(wrong))
        if 1 <= lots[row] <= LOTS_MAX:
            field, problem = "price_bound_e9", f"is above {PRICE_MAX} ticks"
        else:
            field, problem = "quantity_e9", f"is not within 1 to {LOTS_MAX} lots"
        raise InvalidValueError(f"batch.{field}[{row}]", problem, "correct the proposal")

    def reserve(self, rows: NDArray[np.void], now_ns: int, mode: Mode) -> NDArray[np.void]:
        """Judges GATE_ORDER rows as one basket and reserves what is approved. Returns VERDICT rows."""
        return self._gate.check(rows, now_ns, mode=mode)

    def reserve_again(self, ask: Ask, now_ns: int, *, instead_of: int = 0) -> int:
        """Repeats a reservation while the ledger is rebuilt, in the place of another if one is named.

        Raises ReplayError when the gate refuses.
        """
        answer = self.exchange(instead_of, ask, now_ns)
        if answer.lots != ask.lots:
            names = ", ".join(DenialReason(reason).name for reason in answer.reasons)
            raise ReplayError(f"order {ask.client_order_id} was approved, and is denied on replay: {names}")
        return answer.reservation

    def exchange(self, reservation: int, ask: Ask, now_ns: int) -> Answer:
        """Trades an open reservation for one on new terms; on a denial everything stays as it was."""
        if not self._gate.reserved_lots(reservation):
            return self.check([ask], now_ns, reserve=True)[0]
        return _answers(self._gate.exchange(reservation, self._rows([ask]), now_ns))[0]

    def fill(self, reservation: int, instrument_id: str, side: int, lots: int, price: int, fee: int) -> int:
        """A fill: reservation becomes position and cash. Returns the lots that nothing was reserved for."""
        uncovered = self._gate.fill(
            reservation, instrument=self._index[instrument_id], side=side, lots=lots, price=price, fee=fee
        )
        return int(uncovered)

    def release(self, reservation: int, lots: int = 0) -> None:
        """Ends a reservation, or gives part of it back; harmless when it is closed."""
        if self._gate.reserved_lots(reservation):
            self._gate.release(reservation, lots)

    def end(self, reservations: Iterable[int]) -> None:
        """Ends reservations that are open, in order. Raises InvalidValueError for one that is not."""
        self._gate.release_all(list(reservations))

    def reserved_lots(self, reservation: int) -> int:
        """Lots still reserved under a handle."""
        return self._gate.reserved_lots(reservation)

    def position(self, instrument_id: str) -> int:
        """Lots held, negative short."""
        return self._gate.position(self._index[instrument_id])

    def hold(self, instrument_id: str, lots: int, cash: int) -> None:
        """A position and the cash after a corporate action."""
        self._gate.set_position(self._index[instrument_id], lots)
        self.settle(cash)

    def figures(self) -> Figures:
        """What the invariants are about, as it is now."""
        free, gross, worst = self._gate.worst_case()
        return Figures(free=free, gross=gross, worst=worst)

    @property
    def caps(self) -> tuple[int, int] | None:
        """(gross exposure, exposure to one instrument) that may not be exceeded; None before the first policy."""
        return self._caps

    def digest(self) -> bytes:
        """sha256 of the gate's state: equal after the same events."""
        return self._gate.digest()

    def settle(self, cash: int) -> None:
        """Cash as the ledger's books have it, in the account's currency."""
        self._gate.set_account(cash=cash, day_start_equity=self._day_start, peak_equity=self._peak)

    def set_rates(self, rates: Mapping[str, tuple[Rate, int]]) -> None:
        """Exchange rates into the account's currency, and when they are of. Those left out stay as they are."""
        before = self._rates.copy()
        self._rates.update(rates)
        for index, listing in self._foreign.items():
            if listing.currency in rates and rates[listing.currency] != before.get(listing.currency):
                rate, ts = rates[listing.currency]
                tick_value = rate.cost(listing.tick_value)
                if tick_value < SMALLEST_TICK_VALUE:
                    self._rate_ts.pop(index, None)
                    continue
                self._gate.set_tick_value(index, tick_value, fee_per_lot=rate.cost(self._fee_per_lot))
                self._rate_ts[index] = ts

    def mark(self, index: Indexes, ticks: Indexes, ts_ns: Indexes) -> None:
        """Reference prices, a row each: dense index, ticks, time. UNKNOWN rows are left out.

        The price of an instrument in another currency is as old as its rate.
        """
        updates = np.zeros(len(index), GATE_PRICE)
        updates["instrument"], updates["price"], updates["ts_ns"] = index, ticks, ts_ns
        wanted = index != UNKNOWN
        if self._foreign:
            for row, instrument in enumerate(index.tolist()):
                if instrument in self._foreign:
                    wanted[row] = instrument in self._rate_ts
                    updates["ts_ns"][row] = min(int(ts_ns[row]), self._rate_ts.get(instrument, 0))
        self._gate.set_prices(updates if wanted.all() else updates[wanted])

    def value(self, equity: int, *, new_day: bool, previous_equity: int) -> None:
        """The account was valued: moves what daily loss and drawdown are measured from."""
        if new_day:
            self._day_start = previous_equity
        self._peak = max(self._peak, equity)
        self._gate.set_account(cash=self._gate.cash, day_start_equity=self._day_start, peak_equity=self._peak)

    def apply_rules(self, rules: Rules) -> None:
        """A new policy. Raises CoreError when the gate cannot hold it."""
        self._rules = rules
        self._apply()

    def set_operator_state(self, state: int) -> None:
        """The operator's step of the kill ladder."""
        self._operator_state = state
        self._gate.set_trading_state(TradingState(self.trading_state))

    def set_status(self, *, reconciling: bool) -> None:
        """While reconciling with the venue, only reductions pass."""
        self._gate.set_status(caught_up=True, reconciling=reconciling)

    def check_rules(self, rules: Rules) -> None:
        """Raises CoreError for rules that `apply_rules` could not take; changes nothing."""
        if rules.orders_per_second > self._remembered:
            problem = f"{rules.orders_per_second} is more than the {self._remembered} orders that are remembered"
            remedy = "lower it, or raise remembered_orders in the configuration of execution"
            raise InvalidValueError("policy.orders_per_second", problem, remedy)
        self._policy(rules)

    def _policy(self, rules: Rules) -> Policy:
        equity = max(self._gate.equity, 0)
        return Policy(
            version=rules.version,
            ts_ns=rules.ts_ns,
            max_age_ns=rules.max_age_ns,
            price_max_age_ns=rules.price_max_age_ns,
            collar_bps=rules.collar_bps,
            gross_limit=rules.gross_limit,
            net_limit=rules.net_limit,
            sector_limit=rules.sector_limit,
            concentration_limit=min(rules.position_limit, equity * rules.concentration_bps // BPS),
            leverage_limit_bps=rules.leverage_bps,
            daily_loss_limit=rules.daily_loss_limit,
            drawdown_limit=self._peak * rules.drawdown_bps // BPS,
            var_budget=rules.var_budget,
            var_use=rules.var_used,
            burst_orders=rules.orders_per_second,
            cash_buffer=self._cash_buffer(),
        )

    def _cash_buffer(self) -> int:
        """The gate reserves fees in proportion; minimum fees, of any currency, come out of this."""
        fees = self._minimum_fee * (len(self._listings) - len(self._foreign))
        for listing in self._foreign.values():
            rate = self._rates.get(listing.currency)
            fees += self._minimum_fee if rate is None else rate[0].cost(self._minimum_fee)
        return fees * ORDERS_PER_INSTRUMENT

    def _apply(self) -> None:
        rules = self._rules
        assert rules is not None
        policy = self._policy(rules)
        self._gate.set_policy(policy)
        self._caps = (rules.gross_limit, policy.concentration_limit or 0)
        self._gate.set_order_limits(
            min_notional=rules.order_minimum, max_notional=rules.order_maximum, shortable=rules.short_allowed
        )
        for name in (rules.restricted ^ self._restricted) & self._index.keys():
            self._gate.set_market(self._index[name], market_open=True, restricted=name in rules.restricted)
        self._restricted = rules.restricted
        self._gate.set_trading_state(TradingState(self.trading_state))


def warm() -> None:
    """Compiles or loads the gate's kernels, so that no request does."""
    listing = Listing(instrument_id="WARM", tick_e9=1, lot_e9=1, tick_value=1, sector="", currency="USD")
    keeper = Gatekeeper(
        [listing],
        currency="USD",
        cash=10**6,
        fee_ppm=0,
        fee_per_lot=0,
        minimum_fee=0,
        open_orders=16,
        remembered_orders=4096,
    )
    keeper.mark(np.zeros(1, np.int64), np.full(1, 100), np.ones(1, np.int64))
    limits = dict.fromkeys(
        ("gross_limit", "net_limit", "position_limit", "sector_limit", "order_maximum", "daily_loss_limit"), 10**6
    )
    ratios = {"drawdown_bps": BPS, "collar_bps": BPS, "leverage_bps": BPS, "concentration_bps": BPS}
    keeper.apply_rules(
        Rules(
            version=1,
            ts_ns=1,
            max_age_ns=10,
            price_max_age_ns=10,
            trading_state=TradingState.ACTIVE,
            order_minimum=0,
            orders_per_second=100,
            short_allowed=False,
            restricted=frozenset(),
            var_budget=None,
            var_used=0,
            **limits,
            **ratios,
        )
    )
    keeper.set_status(reconciling=False)
    for number, mode in enumerate(Mode):
        ask = Ask(
            client_order_id=str(number),
            instrument_id="WARM",
            side=1,
            order_type=OrderType.MARKET,
            time_in_force=1,
            lots=2,
        )
        handle = keeper.check([ask], 2, mode=mode, reserve=True)[0].reservation
        keeper.fill(handle, "WARM", 1, 1, 100, 0)
        keeper.release(handle)
    keeper.value(10**6, new_day=True, previous_equity=10**6)


def _answers(verdicts: NDArray[np.void]) -> list[Answer]:
    return [
        Answer(
            lots=int(verdict["lots"]),
            reservation=int(verdict["reservation"]),
            reasons=tuple(int(reason) for reason in reasons(int(verdict["mask"]))),
        )
        for verdict in verdicts
    ]


def worst_price(side: int, *prices: int) -> int:
    """The price that reserves most: the highest for a buy, the lowest positive one for a sell."""
    known = [price for price in prices if price]
    if not known:
        return 0
    return max(known) if side == 1 else min(known)


def is_limit(order_type: int) -> bool:
    """Whether the type carries a limit price."""
    return order_type in (
        OrderType.LIMIT,
        OrderType.STOP_LIMIT,
        OrderType.LIMIT_IF_TOUCHED,
        OrderType.ICEBERG,
        OrderType.TRAILING_STOP_LIMIT,
    )


def _hash(client_order_id: str) -> int:
    digest = hashlib.blake2b(client_order_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1
