"""Writes ledger events into a real journal of the execution stream, as execution would."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import Message

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit import convert
from python_services.kit.journal import Event, Journal

NANO = 1_000_000_000
DAY_NS = 86_400_000_000_000
ACCOUNT = "demo"
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL


def instruments(*names: str, multiplier_e9: int = NANO) -> dict[str, marketdata_pb2.Instrument]:
    """Shares in lots of one, ticks of a cent."""
    return {
        name: marketdata_pb2.Instrument(
            instrument_id=name,
            currency_code="USD",
            price_increment_e9=10_000_000,
            size_increment_e9=NANO,
            multiplier_e9=multiplier_e9,
            sector="Technology",
        )
        for name in names
    }


class LedgerWriter:
    """Keeps its own cash, with the plainest arithmetic there is."""

    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory / "journal.db", "execution", "0.1.0", _fail)
        self.cash_e9 = 0
        self.held_e9: dict[str, int] = {}
        self._numbers = itertools.count(1)

    def open(self, cash: int, day: int = 0) -> None:
        """AccountOpened."""
        self.cash_e9 = cash * NANO
        self._add(events_pb2.AccountOpened(account_id=ACCOUNT, cash=convert.money(self.cash_e9, "USD")), day)

    def submit(self, name: str, shares: int, day: int = 0, *, approved: int | None = None) -> str:
        """OrderInitialized of a market order; returns its id."""
        identifier = f"order-{next(self._numbers)}"
        allowed = abs(shares) if approved is None else approved
        spec = order_pb2.OrderSpec(
            client_order_id=identifier,
            instrument_id=name,
            side=BUY if shares > 0 else SELL,
            order_type=trading_pb2.ORDER_TYPE_MARKET,
            time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
            quantity_e9=abs(shares) * NANO,
        )
        state = order_pb2.ORDER_STATE_SUBMITTED if allowed else order_pb2.ORDER_STATE_DENIED
        event = events_pb2.OrderInitialized(
            account_id=ACCOUNT, spec=spec, state=state, approved_quantity_e9=allowed * NANO
        )
        self._add(event, day)
        return identifier

    def change(self, identifier: str, state: order_pb2.OrderState.ValueType, day: int = 0) -> None:
        """OrderStateChanged."""
        self._add(events_pb2.OrderStateChanged(account_id=ACCOUNT, client_order_id=identifier, to_state=state), day)

    def fill(
        self,
        identifier: str,
        name: str,
        shares: int,
        price_e9: int,
        day: int = 0,
        *,
        fee_e9: int = NANO,
        state: order_pb2.OrderState.ValueType = order_pb2.ORDER_STATE_FILLED,
    ) -> None:
        """OrderFilled; shares are signed."""
        fill = order_pb2.Fill(
            trade_id=f"trade-{next(self._numbers)}",
            client_order_id=identifier,
            account_id=ACCOUNT,
            instrument_id=name,
            side=BUY if shares > 0 else SELL,
            price_e9=price_e9,
            quantity_e9=abs(shares) * NANO,
            fee=convert.money(fee_e9, "USD"),
        )
        self.cash_e9 -= shares * price_e9 + fee_e9
        self.held_e9[name] = self.held_e9.get(name, 0) + shares * NANO
        self._add(events_pb2.OrderFilled(fill=fill, to_state=state), day)

    def trade(self, name: str, shares: int, price: int, day: int = 0) -> None:
        """An order that fills at once, at a price in whole dollars."""
        self.fill(self.submit(name, shares, day), name, shares, price * NANO, day)

    def value(self, marks: Mapping[str, int], day: int, *, cash_e9: int | None = None) -> int:
        """AccountValued at marks in whole dollars; returns the equity."""
        equity = self.cash_e9 + sum(self.held_e9.get(name, 0) * mark for name, mark in marks.items())
        self._add(
            events_pb2.AccountValued(
                account_id=ACCOUNT,
                snapshot_id=f"{day:064x}",
                instrument_ids=list(marks),
                mark_e9=[mark * NANO for mark in marks.values()],
                mark_ts_ns=[day * DAY_NS + 1] * len(marks),
                cash=convert.money(self.cash_e9 if cash_e9 is None else cash_e9, "USD"),
                equity=convert.money(equity, "USD"),
            ),
            day,
        )
        return equity

    def policy(self, version: int, state: trading_pb2.TradingState.ValueType, day: int = 0) -> None:
        """RiskPolicyApplied."""
        policy = execution_pb2.RiskPolicy(version=version, trading_state=state)
        self._add(events_pb2.RiskPolicyApplied(account_id=ACCOUNT, policy=policy), day)

    def state(self, state: trading_pb2.TradingState.ValueType, day: int = 0) -> None:
        """TradingStateChanged by an operator."""
        self._add(events_pb2.TradingStateChanged(account_id=ACCOUNT, trading_state=state, reason="test"), day)

    def _add(self, payload: Message, day: int) -> None:
        ts = day * DAY_NS + 1
        self.journal.add([Event(payload=payload, ts_event_ns=ts, ts_init_ns=ts)])


def _fail(error: BaseException) -> None:
    raise AssertionError("the journal failed") from error
