"""Random command streams, and the engine and its reference twin side by side."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from execution_core.matching import MatchingEngine
from execution_core.types import COMMAND, NO_PRICE, CommandKind, OrderType, SessionPhase, TimeInForce
from tests.unit.execution_core.matching.reference_engine import Command, Event, ReferenceEngine, allowed_times

MIDDLE = 1000
CALLS = (SessionPhase.OPENING_AUCTION, SessionPhase.INTRADAY_AUCTION, SessionPhase.CLOSING_AUCTION)


class Pair:
    """One engine and one twin that are fed the same commands; every event must be the same."""

    def __init__(self, base: int = 0, phase: SessionPhase = SessionPhase.CONTINUOUS, reference: int | None = None):
        self.settings: dict[str, Any] = {"base_price": base, "phase": phase, "reference_price": reference}
        self.engine = MatchingEngine(**self.settings)
        self.twin = ReferenceEngine(base, phase, reference)
        self.ids: dict[int, int] = {}  # sequence number -> the engine's order id
        self.rows: list[Any] = []
        self.events: list[Event] = []

    def row(self, command: Command) -> Any:
        row = np.zeros(1, COMMAND)
        for name in COMMAND.names or ():
            if name not in ("order_id", "reserved"):
                value = getattr(command, name)
                row[name] = NO_PRICE if value is None else value
        row["order_id"] = self.ids.get(command.order, command.order)
        return row[0]

    def step(self, command: Command) -> list[Event]:
        row = self.row(command)
        self.rows.append(row)
        expected = self.twin.execute(command)
        produced = self.engine.process(np.array([row], COMMAND)).events
        sequences = {order_id: sequence for sequence, order_id in self.ids.items()}
        actual = []
        for event in produced:
            order_id = int(event["order_id"])
            if event["kind"] == 1:
                sequences[order_id] = self.twin.sequence
                self.ids[self.twin.sequence] = order_id
            fields = [int(event[name]) for name in event.dtype.names]
            fields[5] = sequences.get(order_id, order_id)
            actual.append(Event(*fields)._replace(price=None if fields[7] == NO_PRICE else fields[7]))
        assert actual == expected, f"{command}\nengine {actual}\ntwin   {expected}"
        self.events += actual
        return actual

    def commands(self) -> np.ndarray[Any, np.dtype[np.void]]:
        return np.array(self.rows, COMMAND)

    def check_state(self) -> None:
        """The engine's memory is sound and shows what the twin has."""
        self.engine.check()
        assert self.engine.order_count == len(self.twin.live)
        assert self.engine.last_price == self.twin.last
        assert self.engine.phase == self.twin.phase
        live = [
            (self.ids[o.sequence], o.terms.client_tag, o.price, o.stop, o.quantity, o.leaves, o.shown)
            for o in self.twin.live
        ]
        shown = [[None if value == NO_PRICE else value for value in row][:7] for row in self.engine.orders().tolist()]
        assert [tuple(row) for row in shown] == live
        for account in range(8):
            assert self.engine.position(account) == self.twin.positions[account]
        for side in (1, 2):
            levels: dict[int, list[int]] = {}
            for order in self.twin.queue(side):
                if order.price is not None:
                    levels.setdefault(order.price, []).append(order.shown)
            expected = [(price, sum(shown), len(shown)) for price, shown in levels.items()]
            assert self.engine.depth(side, 1000).tolist() == expected


class Stream:
    """Draws commands that meet each other: few prices, few accounts, every kind of order and of mistake.

    `calm` in [0, 1] is the share of plain limit orders.
    """

    def __init__(self, source: random.Random, calm: float = 0.3) -> None:
        self.random = source
        self.calm = calm
        self.now = 0
        self.tag = 0

    def price(self, spread: int = 12) -> int:
        return MIDDLE + self.random.randint(-spread, spread)

    def order_number(self, pair: Pair) -> int:
        """Mostly a live order, sometimes a dead or an unknown one."""
        live = pair.twin.live
        if live and self.random.random() < 0.9:
            return self.random.choice(live).sequence
        if pair.ids and self.random.random() < 0.7:
            return self.random.choice(list(pair.ids))
        return self.random.choice([0, -1, 10**15, 2**62 + 5, -(2**63)])

    def draw(self, pair: Pair) -> Command:
        r = self.random
        self.now += r.choice([0, 0, 1, 1, 2, 5, -3])
        self.tag += 1
        choice = r.random()
        if choice < 0.62:
            command = self.new()
        elif choice < 0.74:
            command = Command(CommandKind.CANCEL, order=self.order_number(pair))
        elif choice < 0.88:
            command = self.amendment(pair)
        else:
            command = self.control()
        if pair.twin.phase in (SessionPhase.CLOSED, SessionPhase.HALTED) and r.random() < 0.2:
            command = Command(CommandKind.SET_PHASE, phase=r.choice([2, 3, 3, 4]))
        if command.kind in (CommandKind.CANCEL, CommandKind.REPLACE):
            owners = {order.sequence: order.account for order in pair.twin.live}
            command.account = owners.get(command.order, 0) if r.random() < 0.95 else r.randint(-1, 5)
        command.client_tag = self.tag
        command.ts_event_ns = self.now
        return command

    def new(self) -> Command:
        r = self.random
        command = Command(
            CommandKind.NEW,
            side=r.randint(1, 2),
            order_type=OrderType.LIMIT,
            time_in_force=r.choice([TimeInForce.DAY, TimeInForce.GTC]),
            account=r.randint(0, 4),
            price=self.price(),
            quantity=r.choice([1, 2, 5, 10, 10, 10, 25, 60]),
        )
        if r.random() < self.calm:
            return command
        command.order_type = r.randint(1, 9)
        allowed = sorted(allowed_times(command.order_type))
        command.time_in_force = r.choice(allowed) if r.random() < 0.9 else r.randint(1, 7)
        command.flags = r.choice([0, 0, 0, 0, 0, 1, 2, 2, 3])
        command.self_trade = r.choice([0, 1, 2, 3, 4])
        command.stop_price = self.price() if r.random() < 0.85 else None
        command.display_quantity = r.choice([1, 2, 5, 7, command.quantity])
        command.trailing_offset = r.randint(1, 6)
        command.limit_offset = r.randint(0, 4)
        command.expire_time_ns = self.now + r.randint(-1, 60)
        if r.random() < 0.06:
            self.spoil(command)
        return command

    def spoil(self, command: Command) -> None:
        """One field gets a value that should refuse the order."""
        faults: list[tuple[str, list[int | None]]] = [
            ("side", [0, 3, 255]),
            ("order_type", [0, 10, 255]),
            ("time_in_force", [0, 8, 255]),
            ("flags", [4, 128, 255]),
            ("self_trade", [5, 255]),
            ("quantity", [0, -1, -(2**63), 2**40 + 1, 2**63 - 1]),
            ("account", [-1, 4096, 2**31, -(2**63), 2**63 - 1]),
            ("price", [None, -1, 262_144, 2**63 - 1, -(2**63) + 1]),
            ("stop_price", [-1, 262_144, 2**63 - 1]),
            ("display_quantity", [0, -1, 2**62]),
            ("trailing_offset", [0, -5, 2**63 - 1]),
            ("limit_offset", [-1, 2**63 - 1]),
            ("expire_time_ns", [-(2**63), 0]),
            ("kind", [0, 11, 255]),
        ]
        field, values = self.random.choice(faults)
        setattr(command, field, self.random.choice(values))

    def amendment(self, pair: Pair) -> Command:
        r = self.random
        command = Command(CommandKind.REPLACE, order=self.order_number(pair))
        if r.random() < 0.6:
            command.quantity = r.choice([1, 2, 5, 9, 10, 11, 40, 150, -1, 2**41])
        if r.random() < 0.5:
            command.price = self.price() if r.random() < 0.95 else r.choice([-1, 2**60])
        if r.random() < 0.3:
            command.stop_price = self.price() if r.random() < 0.95 else r.choice([-1, 2**60])
        return command

    def control(self) -> Command:
        r = self.random
        kind = r.choice([4, 5, 5, 5, 5, 5, 5, 5, 6, 6, 7, 7, 8, 8, 8, 8, 8, 9, 9, 10, 10])
        command = Command(kind, account=r.randint(0, 4))
        if kind == CommandKind.MASS_CANCEL:
            command.account = r.choice([-1, 0, 1, 2, 3, 4, -2, -2, 4096])
        elif kind == CommandKind.SET_PHASE:
            command.phase = r.choice([2, 2, 3, 3, 3, 3, 3, 4, 4, 5, 6, 6, 7, 1, 200])
        elif kind == CommandKind.SET_BAND:
            command.price = r.choice([None, None, self.price() - 8, -7])
            command.stop_price = r.choice([None, None, self.price() + 8, 2**40])
        elif kind == CommandKind.SET_REFERENCE:
            command.price = r.choice([None, self.price(), self.price(), -1])
        elif kind == CommandKind.SET_POSITION:
            command.quantity = r.choice([0, 10, -10, 30, -30, 2**61])
        elif kind == CommandKind.REBASE:
            command.price = r.choice([0, 500, -100, 980, 995, 2**60, None, -(2**53)])
        return command
