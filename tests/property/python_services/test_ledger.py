"""The ledger under random proposals, orders, fills, cancels, lost answers, expiries and restarts.

After every step an independent count of what is held and open is within every limit, and the state that the
journal rebuilds is the state that is there, by hash.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.execution import acting
from python_services.execution import orders as states
from python_services.execution.asks import Catalogue
from python_services.execution.desk import Desk
from python_services.execution.gatekeeper import Gatekeeper
from python_services.execution.ledger import Ledger
from python_services.kit import convert
from python_services.kit.errors import ServiceError
from python_services.kit.journal import Journal
from tests.services.scripted_venue.service import Book, Venue

E9 = 10**9
DAY_NS = 86_400 * E9
ACCOUNT = "a"
MARKS = {"AAA": 100, "BBB": 20, "CCC": 7}
GROSS, POSITION, CASH = 13_000, 10_000, 40_000
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
AGENTS = ("one", "two", "three")

names = st.sampled_from(list(MARKS))
shares = st.integers(1, 400)
sides = st.sampled_from([BUY, SELL])
modes = st.sampled_from([1, 2, 3])


def usd(units: int) -> Any:
    return convert.money(units * E9, "USD")


def catalogue() -> Catalogue:
    return Catalogue(
        {
            name: marketdata_pb2.Instrument(
                instrument_id=name,
                currency_code="USD",
                price_increment_e9=E9 // 100,
                size_increment_e9=E9,
                multiplier_e9=E9,
                sector="s",
            )
            for name in MARKS
        }
    )


def open_gate(listings: Any, cash: int) -> Gatekeeper:
    return Gatekeeper(
        listings,
        currency="USD",
        cash=cash,
        fee_ppm=0,
        fee_per_lot=E9 // 100,
        minimum_fee=0,
        open_orders=64,
        remembered_orders=1_000,
    )


def digest(ledger: Ledger) -> dict[str, str]:
    """Everything that there is, hashed part by part."""
    parts: dict[str, bytes] = {"clock": repr((ledger.now_ns, ledger.venue_seq)).encode()}
    for account in ledger.accounts.values():
        agents = [(agent, known.last_batch, list(known.batches)) for agent, known in account.held.agents.items()]
        parts |= {
            "account": account.message().SerializeToString(deterministic=True),
            "gate": account.gate.digest(),
            "orders": b"".join(order.SerializeToString(deterministic=True) for order in account.orders.values()),
            "fills": b"".join(fill.SerializeToString(deterministic=True) for fill in account.fills),
            "held": account.held.listed().tobytes(),
            "agents": repr(agents).encode(),
            "handles": repr((account.traded, account.reservations, sorted(account.triggered))).encode(),
        }
    return {name: hashlib.sha256(part).hexdigest() for name, part in parts.items()}


class LedgerMachine(RuleBasedStateMachine):
    """One account, a venue that does as it is told, and a journal on disk."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="am-"))
        self.book = Book()
        self.venue = Venue(SimpleNamespace(signal=lambda: self.book.changed), self.book)  # type: ignore[arg-type]
        self.numbers = dict.fromkeys(AGENTS, 0)
        self.orders = 0
        self.actions = 0
        self.split: dict[str, int] = {}
        self.rebuild()

    def teardown(self) -> None:
        self.journal.close()
        self.loop.close()
        shutil.rmtree(self.folder)

    # --- plumbing ------------------------------------------------------------------------------------

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def rebuild(self) -> None:
        self.journal = Journal(self.folder / "journal.db", "execution", "test", lambda error: None)
        products = catalogue()
        self.ledger = Ledger(products, lambda currency, cash: open_gate(products.listings, cash))
        for frame in self.journal.read(1):
            for envelope in frame.events:
                self.ledger.apply(envelope)
        self.ledger.breaches.clear()
        self.desk = Desk(self.ledger, self.journal, self.stub(), 0.01, 0.0)

    def stub(self) -> Any:
        """The venue's servicer as a stub: over the wire it is tested elsewhere, here it has to be fast."""

        def method(name: str) -> Any:
            async def call(request: Any, timeout: float = 0) -> Any:  # noqa: ASYNC109 - a stub's
                if self.book.silent:
                    getattr(self.venue, name)  # it exists; whether it arrives is decided here
                    raise TimeoutError
                return await getattr(self.venue, name)(request, None)

            return call

        return SimpleNamespace(**{name: method(name) for name in ("SubmitOrders", "CancelOrders", "ReplaceOrder")})

    @property
    def account(self) -> Any:
        return self.ledger.accounts[ACCOUNT]

    def value(self, ns: int) -> None:
        event = events_pb2.AccountValued(
            account_id=ACCOUNT,
            instrument_ids=list(MARKS),
            mark_e9=[mark * E9 for mark in MARKS.values()],
            mark_ts_ns=[ns] * len(MARKS),
            cash=convert.money(self.account.cash_e9, "USD"),
            equity=convert.money(self.account.value({name: mark * E9 for name, mark in MARKS.items()}), "USD"),
        )
        self.desk.record(event, ns)

    def commit(self) -> None:
        self.run(self.journal.commit())

    # --- what happens ----------------------------------------------------------------------------------

    @initialize(short=st.booleans())
    def open(self, short: bool) -> None:
        self.desk.record(events_pb2.AccountOpened(account_id=ACCOUNT, cash=usd(CASH)), DAY_NS)
        self.value(DAY_NS)
        everything = usd(10**6)
        policy = execution_pb2.RiskPolicy(
            version=1, ts_event_ns=DAY_NS, max_age_ns=10**4 * DAY_NS, price_max_age_ns=10**4 * DAY_NS,
            trading_state=trading_pb2.TRADING_STATE_ACTIVE, gross_exposure_limit=usd(GROSS),
            net_exposure_limit=everything, position_limit=usd(POSITION), order_notional_limit=everything,
            order_notional_minimum=usd(0), sector_limit=everything, daily_loss_limit=everything,
            drawdown_limit_bps=10_000, price_collar_bps=1_000, orders_per_second=1_000,
            leverage_limit_bps=100_000, concentration_limit_bps=10_000, short_allowed=short,
        )  # fmt: skip
        self.desk.record(events_pb2.RiskPolicyApplied(account_id=ACCOUNT, policy=policy), DAY_NS)
        self.commit()

    @rule(
        agent=st.sampled_from(AGENTS),
        rows=st.lists(st.tuples(names, sides, shares, st.sampled_from([0, 95, 103])), min_size=1, max_size=5),
        mode=modes,
        days=st.integers(1, 5),
        back=st.booleans(),
    )
    def propose(self, agent: str, rows: list[Any], mode: int, days: int, back: bool) -> None:
        self.numbers[agent] += 1
        mine = self.account.held.listed(agent)["id"].tolist() if back else []
        request = execution_pb2.ReserveExposureRequest(
            account_id=ACCOUNT,
            agent_id=agent,
            batch_number=self.numbers[agent],
            release_ids=mine[:3],
            batch=execution_pb2.ReservationBatch(
                basket_mode=mode,  # type: ignore[arg-type]
                instrument_ids=[name for name, _, _, _ in rows],
                sides=[side for _, side, _, _ in rows],
                quantity_e9=[quantity * E9 for _, _, quantity, _ in rows],
                price_bound_e9=[MARKS[name] * E9 * percent // 100 for name, _, _, percent in rows],
                time_to_live_ns=days * DAY_NS,
            ),
        )
        seq, granted = self.desk.reserve(self.account, request)
        quantities = list(granted.verdicts.granted_quantity_e9)
        asked = list(request.batch.quantity_e9)
        assert seq == self.journal.last_seq
        assert all(got <= wanted for got, wanted in zip(quantities, asked, strict=True))
        if mode == 2:
            assert quantities in (asked, [0] * len(asked))
        if mode == 1:
            assert all(got in (0, wanted) for got, wanted in zip(quantities, asked, strict=True))
        self.commit()

    @precondition(lambda self: ACCOUNT in self.ledger.accounts and self.account.held.count)
    @rule(pick=st.integers(0, 63), twice=st.booleans())
    def release(self, pick: int, twice: bool) -> None:
        ids = self.account.held.listed()["id"].tolist()
        one = ids[pick % len(ids)]
        assert self.desk.release(self.account, [one] * (2 if twice else 1), "test") == [one]
        assert self.desk.release(self.account, [one], "test") == []
        self.commit()

    @rule(
        rows=st.lists(st.tuples(names, sides, shares, st.booleans()), min_size=1, max_size=3),
        mode=modes,
        consume=st.booleans(),
    )
    def submit(self, rows: list[Any], mode: int, consume: bool) -> None:
        specs = []
        held = self.account.held.listed()
        for number, (name, side, quantity, limited) in enumerate(rows):
            self.orders += 1
            reservation = 0
            if consume and number < len(held):
                row = held[number]
                name, side, reservation = (
                    self.ledger.catalogue.name(int(row["instrument"])),
                    int(row["side"]),
                    row["id"],
                )
            limit = MARKS[name] * E9 * (101 if side == BUY else 99) // 100
            specs.append(
                order_pb2.OrderSpec(
                    client_order_id=f"o{self.orders}",
                    instrument_id=name,
                    side=side,
                    order_type=2 if limited else 1,  # type: ignore[arg-type]
                    time_in_force=1,
                    quantity_e9=quantity * E9,
                    price_e9=limit if limited else None,
                    reservation_id=int(reservation),
                )
            )

        async def send() -> None:
            to_send = self.desk.initialize(self.account, specs, mode, "test")
            await self.journal.commit()
            await self.desk.send(to_send)
            await self.journal.commit()

        self.run(send())

    @rule(pick=st.integers(0, 63), part=st.integers(1, 4), percent=st.sampled_from([99, 100, 101]))
    def fill(self, pick: int, part: int, percent: int) -> None:
        """Part of an order fills, at a price that it may have."""
        names = [name for name, status in self.book.orders.items() if status.open]
        if not names:
            return
        name = names[pick % len(names)]
        status = self.book.orders[name]
        mark = MARKS[status.order.instrument_id] * E9
        price = mark if status.order.HasField("price_e9") else mark * percent // 100
        quantity = -(-status.leaves_quantity_e9 // E9 // part) * E9
        self.desk.link.take([self.book.fill(name, quantity, price, fee=convert.money(quantity // 100, "USD"))])
        self.commit()

    @rule(pick=st.integers(0, 63), at_venue=st.booleans())
    def cancel(self, pick: int, at_venue: bool) -> None:
        working = list(self.account.open_ids)
        if not working:
            return
        name = working[pick % len(working)]
        if at_venue and name in self.book.orders and self.book.orders[name].open and not self.book.silent:
            self.book.close(name)
            kind = 6 if pick % 2 else 5  # expired or cancelled, unsolicited
            self.desk.link.take([self.book.report(kind, name)])
        else:
            self.run(self.desk.cancel(self.account, [self.account.orders[name]], "test", "test"))
        self.commit()

    @rule(pick=st.integers(0, 63), quantity=shares)
    def replace(self, pick: int, quantity: int) -> None:
        working = [
            name for name in self.account.open_ids
            if self.account.orders[name].state in states.OPEN - states.IN_FLIGHT and name in self.book.orders
        ]  # fmt: skip
        if not working or self.book.silent:
            return
        order = self.account.orders[working[pick % len(working)]]
        pending = order_pb2.OrderSpec()
        pending.CopyFrom(order.spec)
        pending.quantity_e9 = max(quantity * E9, order.cumulative_quantity_e9 + E9)
        status = self.book.orders[order.spec.client_order_id]
        try:
            self.run(self.desk.replace(self.account, order, pending, "test"))
        except Exception as error:
            assert getattr(error, "reason", "") == "REPLACE_DENIED"  # noqa: PT017
            return
        status.leaves_quantity_e9 = pending.quantity_e9 - status.cumulative_quantity_e9
        self.commit()

    @rule()
    def lose_and_find_answers(self) -> None:
        """While silent, requests are lost; then what the venue never got is settled as reconciliation would."""
        self.book.silent = not self.book.silent
        if self.book.silent:
            return
        for order in self.account.open_orders():
            if order.state == states.S.UNRESOLVED:
                known = order.spec.client_order_id in self.book.orders
                triggered = order.spec.client_order_id in self.account.triggered
                works = states.working(order.cumulative_quantity_e9, triggered)
                self.desk.resolve(order, works if known else states.S.REJECTED, "found")
        self.commit()

    @rule(days=st.integers(1, 3))
    def time_passes(self, days: int) -> None:
        self.value(self.ledger.now_ns + days * DAY_NS)
        assert not (self.account.held.listed()["expire_ns"] <= self.ledger.now_ns).any()
        self.commit()

    @rule()
    def restart(self) -> None:
        before = digest(self.ledger)
        self.journal.close()
        self.rebuild()
        after = digest(self.ledger)
        assert [part for part in before if after[part] != before[part]] == []
        # The stream begins where the journal ends: reports without effect come again.
        self.desk.link.take(self.book.reports[self.ledger.venue_seq :])
        assert digest(self.ledger) == before

    # --- what always holds --------------------------------------------------------------------------------

    @invariant()
    def nothing_exceeds_a_limit(self) -> None:
        if ACCOUNT not in self.ledger.accounts or not self.account.policy_version:
            return
        account = self.account
        open_e9: dict[tuple[str, int], int] = {}
        for order in account.open_orders():
            key = (order.spec.instrument_id, order.spec.side)
            open_e9[key] = open_e9.get(key, 0) + order.leaves_quantity_e9
        for row in account.held.listed():
            name = self.ledger.catalogue.name(int(row["instrument"]))
            lots = account.gate.reserved_lots(int(row["id"]))
            assert lots > 0
            key = (name, int(row["side"]))
            open_e9[key] = open_e9.get(key, 0) + lots * E9
        gross = 0
        for name, mark in MARKS.items():
            held = account.positions[name].quantity_e9 if name in account.positions else 0
            filled = sum(f.quantity_e9 * (1 if f.side == BUY else -1) for f in account.fills if f.instrument_id == name)
            assert held == filled + self.split.get(name, 0)
            worst = max(held + open_e9.get((name, BUY), 0), open_e9.get((name, SELL), 0) - held, 0) * mark
            assert worst <= POSITION * E9 or self.actions
            gross += worst
        if not self.actions:  # a split at the marks of before may have doubled a position
            assert gross <= GROSS * E9
        paid = sum(
            f.price_e9 * f.quantity_e9 // E9 * (1 if f.side == BUY else -1) + convert.money_e9(f.fee)
            for f in account.fills
        )
        if not self.actions:
            assert account.cash_e9 == CASH * E9 - paid
        assert account.cash_e9 == account.gate.cash
        assert account.alarms == []
        assert account.duplicate_fills == 0


class ActionsMachine(LedgerMachine):
    """The same with splits and dividends, which may carry an account above its caps."""

    @rule(name=names, new=st.integers(1, 3), old=st.integers(1, 3), dividend=st.booleans())
    def corporate_action(self, name: str, new: int, old: int, dividend: bool) -> None:
        """Value stays: what a split takes from the position it brings in cash, at the price on the new terms."""
        self.actions += 1
        marks = {one: mark * E9 for one, mark in MARKS.items()}
        before = self.account.value(marks)
        action = execution_pb2.CorporateAction(
            action_id=f"a{self.actions}", instrument_id=name, ts_event_ns=self.ledger.now_ns, source="test"
        )
        held = self.account.positions[name].quantity_e9 if name in self.account.positions else 0
        if dividend:
            action.cash_dividend.per_share.CopyFrom(convert.money(E9 // 100, "USD"))
        else:
            price = MARKS[name] * E9 * old // new
            action.split.CopyFrom(execution_pb2.Split(new_shares=new, old_shares=old, fraction_price_e9=price))
        try:
            self.run(acting.apply(self.desk, self.account, action, "test"))
        except ServiceError as error:
            assert error.reason == "ORDERS_IN_DOUBT"  # noqa: PT017
            self.commit()
            return
        if dividend:
            assert self.account.value(marks) - before == held // 100
        else:
            assert not any(
                self.ledger.catalogue.name(int(row["instrument"])) == name for row in self.account.held.listed()
            )
            moved = self.account.marks[name]
            assert abs(self.account.value({**marks, name: moved}) - before) <= abs(held) // 100 * 3 + 10
            self.split[name] = self.split.get(name, 0) + self.account.positions[name].quantity_e9 - held
        self.commit()
        # The market opens on the marks of before: the caps of this test are about them.
        self.value(self.ledger.now_ns)
        self.commit()


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestLedgerWithCorporateActions = ActionsMachine.TestCase
TestLedgerWithCorporateActions.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
