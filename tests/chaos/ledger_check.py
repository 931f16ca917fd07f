"""The ledger's events, judged by somebody else: nothing of the project but the generated messages, plain integers.

`Chain` checks the links, `Books` replays the events, `follow` reads them. At every prefix of the log: what is open
plus what is held is within every limit of the policy in force, or no event made it worse (a price that moved, or a
policy that tightened, may leave an account above a limit). Nothing is kept of an event that changed no state, so the
log may be as long as it likes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2

E9 = 10**9
SCALE = E9**3  # price_e9 * quantity_e9 * multiplier_e9 of one unit of money
NANO = E9**2  # of one nano unit
PACKAGE = "alphamesh.execution.v1."
BUY = 1
LIMITS = ("order notional", "position", "sector", "gross", "net long", "net short")
CLOSED = frozenset(
    {
        order_pb2.ORDER_STATE_DENIED,
        order_pb2.ORDER_STATE_REJECTED,
        order_pb2.ORDER_STATE_CANCELED,
        order_pb2.ORDER_STATE_EXPIRED,
        order_pb2.ORDER_STATE_FILLED,
    }
)


class BrokenError(AssertionError):
    """A promise that the log does not keep; the message has the sequence and the figures."""


class Chain:
    """Every event and every frame is linked to the one before."""

    def __init__(self) -> None:
        self.seq = 0
        self.event_hash = self.frame_hash = bytes(32)

    def take(self, frame: event_pb2.EventFrame) -> None:
        """Raises BrokenError."""
        _hold(frame.first_seq == self.seq + 1, self.seq, f"a frame begins at {frame.first_seq}")
        _hold(frame.count == len(frame.events) > 0, self.seq, "a frame has another number of events than it says")
        _hold(frame.prev_hash == self.frame_hash, self.seq, "a frame is not linked to the one before")
        for event in frame.events:
            self.seq += 1
            _hold(event.seq == self.seq, self.seq, f"an event has sequence {event.seq}")
            _hold(event.prev_hash == self.event_hash, self.seq, "an event is not linked to the one before")
            _hold(_digest(event, "hash") == event.hash, self.seq, "an event is not what its hash says")
            self.event_hash = event.hash
        _hold(_digest(frame, "sha256") == frame.sha256, self.seq, "a frame is not what its hash says")
        self.frame_hash = frame.sha256


@dataclass(frozen=True, kw_only=True)
class Facts:
    """An instrument's increments, and the sector that it counts in."""

    tick_e9: int
    lot_e9: int
    multiplier_e9: int
    sector: str = ""


@dataclass
class Held:
    """Exposure that is open: of an order, or reserved for one."""

    instrument: str
    buy: bool
    quantity_e9: int


@dataclass
class Book:
    """One account."""

    cash_e9: int
    position_e9: Counter[str] = field(default_factory=Counter)
    marks_e9: dict[str, int] = field(default_factory=dict)
    orders: dict[str, order_pb2.OrderSpec] = field(default_factory=dict)
    approved: dict[str, int] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    reserved: dict[int, Held] = field(default_factory=dict)
    trades: set[str] = field(default_factory=set)
    fees_e9: int = 0
    policy: execution_pb2.RiskPolicy | None = None

    def exposures(self, instruments: Mapping[str, Facts]) -> Iterator[Exposure]:
        """What can become of each instrument, counted anew from all that is open and held."""
        bought: Counter[str] = Counter()
        sold: Counter[str] = Counter()
        for held in chain(self.held.values(), self.reserved.values()):
            (bought if held.buy else sold)[held.instrument] += held.quantity_e9
        for name, facts in instruments.items():
            ticks = (2 * self.marks_e9.get(name, 0) + facts.tick_e9) // (2 * facts.tick_e9)
            unit, position = ticks * facts.tick_e9 * facts.multiplier_e9, self.position_e9[name]
            yield Exposure(
                instrument=name,
                sector=facts.sector,
                long=(position + bought[name]) * unit,
                short=(sold[name] - position) * unit,
                lot=facts.lot_e9 * unit,
            )


class Exposure(NamedTuple):
    """What can become of an instrument: all its buys fill, or all its sells. Money times SCALE; `lot`: of one lot."""

    instrument: str
    sector: str
    long: int
    short: int
    lot: int

    @property
    def worst(self) -> int:
        """The worse end."""
        return max(self.long, self.short, 0)


class Figure(NamedTuple):
    """What a limit binds. `lot`: the least that could be added to it; 0 without a price."""

    what: str
    whose: str
    value: int
    limit: int
    lot: int


class Books:
    """All accounts after every prefix of the log."""

    def __init__(self, facts: Mapping[str, Facts]) -> None:
        self._facts = facts
        self.accounts: dict[str, Book] = {}
        self.seq = 0
        self.events: Counter[str] = Counter()
        self.causes: dict[str, tuple[int, int]] = {}  # request id -> first and last event that it caused
        # Of each limit the fullest that it was, and after how many events not one more lot would have fitted.
        self.utilisation: dict[str, float] = dict.fromkeys(LIMITS, 0.0)
        self.full: Counter[str] = Counter()
        self.reasons: Counter[int] = Counter()  # that decided about rows of reservation batches
        self.rows = self.denied = self.cut = self.above = 0
        self._before: dict[str, dict[tuple[str, str], int]] = {}

    def take(self, event: event_pb2.EventEnvelope) -> None:
        """Raises BrokenError."""
        self.seq = event.seq
        name = event.schema.removeprefix(PACKAGE)
        self.events[name] += 1
        first, _ = self.causes.get(event.causation_id, (event.seq, 0))
        self.causes[event.causation_id] = first, event.seq
        kind = getattr(events_pb2, name, None)
        handler = getattr(self, f"_{name}", None)
        _hold(kind is not None and handler is not None, event.seq, f"no rule for {event.schema}: the checker is blind")
        assert kind is not None
        assert handler is not None
        payload = kind.FromString(event.payload)
        handler(payload)
        account = payload.fill.account_id if name == "OrderFilled" else getattr(payload, "account_id", "")
        if account:
            self._judge(account, passive=name in ("AccountValued", "RiskPolicyApplied"))

    def _judge(self, account: str, *, passive: bool) -> None:
        """Within the limits, or no further above them than before."""
        book = self.accounts[account]
        found = list(_figures(book, list(book.exposures(self._facts))))
        before = self._before.get(account, {})
        self._before[account] = {(one.what, one.whose): one.value for one in found}
        if book.policy is None:
            return
        for what, whose, value, limit, lot in found:
            if value > limit:
                self.above += 1
                old = before.get((what, whose), 0)
                _hold(
                    passive or value <= old,
                    self.seq,
                    f"{what} of {whose} went from {old / SCALE:,.2f} to {value / SCALE:,.2f} > {limit / SCALE:,.2f}",
                )
            elif not passive:
                self._fill(what, whose if what == "position" else "", value, limit, lot)

    def _fill(self, what: str, whose: str, value: int, limit: int, lot: int) -> None:
        """Notes how full a limit is."""
        if limit:
            self.utilisation[what] = max(self.utilisation[what], value / limit)
        if limit - value < lot:
            self.full[f"{what} {whose}".strip()] += 1

    # --- one rule for each kind of event ------------------------------------------------------------

    def _AccountOpened(self, event: Any) -> None:
        _hold(event.account_id not in self.accounts, self.seq, f"account {event.account_id} opened twice")
        self.accounts[event.account_id] = Book(cash_e9=_nano(event.cash))

    def _RiskPolicyApplied(self, event: Any) -> None:
        book = self.accounts[event.account_id]
        newer = book.policy is None or event.policy.version > book.policy.version
        _hold(newer, self.seq, f"policy {event.policy.version} is not newer")
        book.policy = event.policy

    def _TradingStateChanged(self, event: Any) -> None:
        """Changes no exposure."""

    def _AccountValued(self, event: Any) -> None:
        book = self.accounts[event.account_id]
        book.marks_e9.update(zip(event.instrument_ids, event.mark_e9, strict=True))
        _hold(_nano(event.cash) == book.cash_e9, self.seq, f"cash is {_nano(event.cash)}, by the fills {book.cash_e9}")

    def _OrderInitialized(self, event: Any) -> None:
        book, spec = self.accounts[event.account_id], event.spec
        identifier, granted = spec.client_order_id, event.approved_quantity_e9
        _hold(identifier not in book.orders, self.seq, f"order {identifier} was entered twice")
        _hold(granted <= spec.quantity_e9, self.seq, f"order {identifier}: more approved than asked for")
        book.orders[identifier] = spec
        book.reserved.pop(getattr(spec, "reservation_id", 0), None)
        self.denied += not granted
        if not granted:
            return
        self.cut += granted < spec.quantity_e9
        book.approved[identifier] = granted
        book.held[identifier] = Held(spec.instrument_id, spec.side == BUY, granted)
        self._judge_notional(book, f"order {identifier}", spec.instrument_id, granted, spec.price_e9)

    def _judge_notional(self, book: Book, whose: str, instrument: str, quantity_e9: int, price_e9: int) -> None:
        """At its own price; without one at the mark, which is the least that it can be judged by."""
        assert book.policy is not None
        facts, limit = self._facts[instrument], _nano(book.policy.order_notional_limit) * NANO
        lot = facts.lot_e9 * (price_e9 or book.marks_e9[instrument]) * facts.multiplier_e9
        notional = quantity_e9 // facts.lot_e9 * lot
        if notional > limit:
            _hold(False, self.seq, f"{whose}: notional {notional / SCALE:,.2f} > {limit / SCALE:,.2f}")
        self._fill("order notional", "", notional, limit, lot)

    def _OrderStateChanged(self, event: Any) -> None:
        if event.to_state in CLOSED:
            self.accounts[event.account_id].held.pop(event.client_order_id, None)

    def _OrderFilled(self, event: Any) -> None:
        fill, book = event.fill, self.accounts[event.fill.account_id]
        _hold(fill.trade_id not in book.trades, self.seq, f"trade {fill.trade_id} was booked twice")
        book.trades.add(fill.trade_id)
        buy, identifier = fill.side == BUY, fill.client_order_id
        notional, rest = divmod(fill.price_e9 * fill.quantity_e9 * self._facts[fill.instrument_id].multiplier_e9, NANO)
        _hold(rest == 0, self.seq, "a notional is no whole number of nano units")
        book.position_e9[fill.instrument_id] += fill.quantity_e9 if buy else -fill.quantity_e9
        book.cash_e9 -= (notional if buy else -notional) + _nano(fill.fee)
        book.fees_e9 += _nano(fill.fee)
        book.approved[identifier] -= fill.quantity_e9
        _hold(book.approved[identifier] >= 0, self.seq, f"order {identifier} filled beyond what was approved")
        if identifier in book.held:
            book.held[identifier].quantity_e9 -= fill.quantity_e9
            if event.to_state in CLOSED:
                del book.held[identifier]

    def _ReservationGranted(self, event: Any) -> None:
        book, verdicts = self.accounts[event.account_id], event.verdicts
        for identifier in event.released_ids:
            book.reserved.pop(identifier, None)
        rows = zip(
            verdicts.reservation_ids,
            event.batch.instrument_ids,
            event.batch.sides,
            event.batch.price_bound_e9,
            verdicts.granted_quantity_e9,
            event.batch.quantity_e9,
            strict=True,
        )
        self.rows += len(verdicts.reservation_ids)
        self.reasons.update(verdicts.reasons)
        for identifier, instrument, side, price, granted, wanted in rows:
            whose = f"reservation {identifier}"
            _hold(0 <= granted <= wanted, self.seq, f"{whose}: more granted than proposed")
            _hold(bool(identifier) == bool(granted), self.seq, f"{whose}: {granted} granted")
            self.denied += not granted
            self.cut += 0 < granted < wanted
            if identifier:
                _hold(identifier not in book.reserved, self.seq, f"{whose} was granted twice")
                book.reserved[identifier] = Held(instrument, side == BUY, granted)
                self._judge_notional(book, whose, instrument, granted, price)

    def _ReservationReleased(self, event: Any) -> None:
        for identifier in event.reservation_ids:
            self.accounts[event.account_id].reserved.pop(identifier, None)

    _ReservationExpired = _ReservationReleased

    def _ReconciliationCompleted(self, event: Any) -> None:
        """Differences after a restart are settled by the events around it, which are judged like all others."""
        found = event.reconciliation
        _hold(found.reconciled, self.seq, f"account {found.account_id} was not reconciled: {found.differences}")

    def _ReportRefused(self, event: Any) -> None:
        raise BrokenError(f"seq {self.seq}: a report of the venue was refused: {event.reason}")


def compare_account(book: Book, told: execution_pb2.Account, seq: int) -> None:
    """An account as it was read must be the account rebuilt from the events up to `seq`. Raises BrokenError."""
    rebuilt = {
        "cash": book.cash_e9,
        "fees": book.fees_e9,
        "open orders": len(book.held),
        "reservations": len(book.reserved),
        "positions": {name: quantity for name, quantity in sorted(book.position_e9.items()) if quantity},
        "policy": book.policy.version if book.policy is not None else 0,
    }
    read = {
        "cash": _nano(told.cash),
        "fees": _nano(told.fees),
        "open orders": told.open_orders,
        "reservations": told.reservations,
        "positions": {position.instrument_id: position.quantity_e9 for position in told.positions},
        "policy": told.policy_version,
    }
    _hold(read == rebuilt, seq, f"account {told.account_id} was read as {read}, the log says {rebuilt}")


def _figures(book: Book, each: list[Exposure]) -> Iterator[Figure]:
    """All that the policy in force binds after an event."""
    policy = book.policy or execution_pb2.RiskPolicy()
    gross, position, sector, net = (
        _nano(money) * NANO
        for money in (
            policy.gross_exposure_limit,
            policy.position_limit,
            policy.sector_limit,
            policy.net_exposure_limit,
        )
    )
    least = min((one.lot for one in each if one.lot), default=0)
    sectors: defaultdict[str, list[Exposure]] = defaultdict(list)
    for one in each:
        yield Figure("position", one.instrument, one.worst, position, one.lot)
        sectors[one.sector].append(one)
    for name, members in sectors.items():
        lot = min((one.lot for one in members if one.lot), default=0)
        yield Figure("sector", name, sum(one.worst for one in members), sector, lot)
    yield Figure("gross", "the account", sum(one.worst for one in each), gross, least)
    yield Figure("net long", "the account", sum(one.long for one in each), net, least)
    yield Figure("net short", "the account", sum(one.short for one in each), net, least)


async def follow(execution: Any, linked: Chain, books: Books) -> AsyncIterator[event_pb2.EventEnvelope]:
    """Every event that `linked` has not seen yet, once it is judged. `execution`: a stub. Raises BrokenError."""
    request = execution_pb2.StreamEventsRequest(from_seq=linked.seq + 1, stop_at_end=True)
    async for response in execution.StreamEvents(request):
        if response.HasField("frame"):
            linked.take(response.frame)
            for event in response.frame.events:
                books.take(event)
                yield event


def flat(frames: Iterable[event_pb2.EventFrame]) -> Iterable[event_pb2.EventEnvelope]:
    """Events one by one."""
    for frame in frames:
        yield from frame.events


def _digest(message: Any, own: str) -> bytes:
    bare = type(message)()
    bare.CopyFrom(message)
    bare.ClearField(own)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()


def _nano(money: Any) -> int:
    return int(money.units) * E9 + int(money.nanos)


def _hold(condition: bool, seq: int, problem: str) -> None:
    if not condition:
        raise BrokenError(f"seq {seq}: {problem}")
