"""What must hold after any fault, read from the events alone.

Independent of the services: plain integers over the recorded events of coordinator and execution.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import decision_pb2
from alphamesh.decision.v1 import events_pb2 as decisions_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.convert import NANO, money_e9

_CLOSED = frozenset(
    order_pb2.OrderState.Value(f"ORDER_STATE_{name}") for name in ("REJECTED", "CANCELED", "EXPIRED", "FILLED")
)


@dataclass(kw_only=True)
class Findings:
    """What was counted, and every rule that was broken, in words."""

    cycles: int = 0
    orders: int = 0
    fills: int = 0
    without_agents: int = 0
    broken: list[str] = field(default_factory=list)


Frames = AsyncIterable[event_pb2.EventFrame]


async def check(coordinator: Frames, execution: Frames, cycles_expected: int) -> Findings:
    """Reads both streams whole."""
    found = Findings()
    planned = await _decisions(coordinator, found, cycles_expected)
    await _ledger(execution, found, planned)
    return found


async def _decisions(
    frames: Frames, found: Findings, cycles_expected: int
) -> dict[str, tuple[decision_pb2.Decision, decision_pb2.PlannedOrder]]:
    """Planned orders by client_order_id: one decision for each cycle, none twice, each order behind a verdict."""
    planned: dict[str, tuple[decision_pb2.Decision, decision_pb2.PlannedOrder]] = {}
    numbers: list[int] = []
    async for envelope in _events(frames):
        if envelope.schema != decisions_pb2.DecisionMade.DESCRIPTOR.full_name:
            continue
        decision = decisions_pb2.DecisionMade.FromString(envelope.payload).decision
        numbers.append(decision.cycle)
        found.without_agents += bool(decision.missing)
        for order in decision.orders:
            planned[order.client_order_id] = (decision, order)
        if decision.orders and not (decision.HasField("risk") and decision.risk.assessment_id):
            found.broken.append(f"{decision.decision_id} has orders without an assessment of risk")
        if decision.orders and decision.outcome == decision_pb2.Decision.OUTCOME_HOLD_NO_QUORUM:
            found.broken.append(f"{decision.decision_id} has orders without a quorum")
    found.cycles = len(numbers)
    if numbers != list(range(1, cycles_expected + 1)):
        found.broken.append(f"decisions are those of cycles {numbers}, not of 1 to {cycles_expected}")
    return planned


async def _ledger(
    frames: Frames, found: Findings, planned: dict[str, tuple[decision_pb2.Decision, decision_pb2.PlannedOrder]]
) -> None:
    entered: Counter[str] = Counter()
    trades: Counter[str] = Counter()
    books: dict[str, _Book] = {}
    async for envelope in _events(frames):
        match envelope.schema.rpartition(".")[2]:
            case "OrderInitialized":
                entry = events_pb2.OrderInitialized.FromString(envelope.payload)
                name = entry.spec.client_order_id
                entered[name] += 1
                if name not in planned:
                    found.broken.append(f"order {name} was decided by nobody")
                elif planned[name][1].quantity_e9 != entry.spec.quantity_e9:
                    found.broken.append(f"order {name} has another quantity than was decided")
                _book(books, entry.account_id).order(entry, found)
            case "OrderStateChanged":
                change = events_pb2.OrderStateChanged.FromString(envelope.payload)
                if change.to_state in _CLOSED:
                    _book(books, change.account_id).open.pop(change.client_order_id, None)
            case "OrderFilled":
                filled = events_pb2.OrderFilled.FromString(envelope.payload)
                trades[filled.fill.trade_id] += 1
                if filled.fill.inferred:
                    found.broken.append(f"fill {filled.fill.trade_id} was inferred: a report was lost")
                _book(books, filled.fill.account_id).fill(filled)
            case "CorporateActionApplied":
                acted = events_pb2.CorporateActionApplied.FromString(envelope.payload)
                _book(books, acted.account_id).act(acted, found)
            case "AccountValued":
                valued = events_pb2.AccountValued.FromString(envelope.payload)
                _book(books, valued.account_id).value(valued, found)
            case "RiskPolicyApplied":
                applied = events_pb2.RiskPolicyApplied.FromString(envelope.payload)
                _book(books, applied.account_id).policy = applied.policy
            case "TradingStateChanged":
                state = events_pb2.TradingStateChanged.FromString(envelope.payload)
                if envelope.causation_id == "alarm":
                    found.broken.append(f"an alarm of the ledger: {state.reason}")
    found.orders, found.fills = sum(entered.values()), sum(trades.values())
    found.broken += [f"order {name} was entered {count} times" for name, count in entered.items() if count > 1]
    found.broken += [f"trade {name} was booked {count} times" for name, count in trades.items() if count > 1]
    found.broken += [f"order {name} was decided and never entered" for name in planned if name not in entered]


class _Book:
    """Positions, marks and open orders of one account."""

    def __init__(self) -> None:
        self.positions: Counter[str] = Counter()
        self.marks: dict[str, int] = {}
        self.open: dict[str, tuple[str, int]] = {}
        self.policy: execution_pb2.RiskPolicy | None = None

    def order(self, entry: events_pb2.OrderInitialized, found: Findings) -> None:
        """What the gate let pass stays within the limits, with everything that is open, at the marks."""
        if entry.approved_quantity_e9 == 0 or entry.spec.client_order_id in self.open:
            return
        instrument = entry.spec.instrument_id
        sign = 1 if entry.spec.side == trading_pb2.SIDE_BUY else -1
        before = self._exposure(instrument)
        self.open[entry.spec.client_order_id] = (instrument, sign * entry.approved_quantity_e9)
        if self.policy is None:
            found.broken.append(f"order {entry.spec.client_order_id} passed the gate without a policy of risk")
            return
        exposure = self._exposure(instrument)
        if exposure <= before:
            return  # it reduces
        if exposure > money_e9(self.policy.position_limit):
            found.broken.append(f"order {entry.spec.client_order_id} takes {instrument} over its limit")
        if sum(map(self._exposure, self.positions | Counter(self.marks))) > money_e9(self.policy.gross_exposure_limit):
            found.broken.append(f"order {entry.spec.client_order_id} takes the account over its gross limit")

    def fill(self, filled: events_pb2.OrderFilled) -> None:
        """Moves quantity from open to held."""
        fill = filled.fill
        sign = 1 if fill.side == trading_pb2.SIDE_BUY else -1
        self.positions[fill.instrument_id] += sign * fill.quantity_e9
        instrument, left = self.open.get(fill.client_order_id, (fill.instrument_id, 0))
        left -= sign * fill.quantity_e9
        if filled.to_state in _CLOSED or not left:
            self.open.pop(fill.client_order_id, None)
        else:
            self.open[fill.client_order_id] = (instrument, left)

    def act(self, acted: events_pb2.CorporateActionApplied, found: Findings) -> None:
        """The position is what the fills made it, and becomes what the event says."""
        action = acted.action
        name = action.instrument_id
        if self.positions[name] != acted.old_quantity_e9:
            found.broken.append(f"action {action.action_id} was applied to another position than the fills made")
        self.positions[name] = 0
        self.positions[action.symbol_change.new_instrument_id or name] += acted.new_quantity_e9

    def value(self, valued: events_pb2.AccountValued, found: Findings) -> None:
        """Equity is cash and positions at the marks, to the last billionth."""
        self.marks.update(zip(valued.instrument_ids, valued.mark_e9, strict=True))
        held = sum(q * self.marks[name] // NANO for name, q in self.positions.items() if q)
        if money_e9(valued.cash) + held != money_e9(valued.equity):
            found.broken.append(f"the account valued at {valued.snapshot_id[:12]} does not add up")

    def _exposure(self, instrument: str) -> int:
        """The larger of what is held and what would be held if all open orders of one side filled, at the mark."""
        held = self.positions[instrument]
        bought = sum(q for name, q in self.open.values() if name == instrument and q > 0)
        sold = sum(q for name, q in self.open.values() if name == instrument and q < 0)
        return max(abs(held), abs(held + bought), abs(held + sold)) * self.marks.get(instrument, 0) // NANO


def _book(books: dict[str, _Book], account_id: str) -> _Book:
    return books.setdefault(account_id, _Book())


async def _events(frames: Frames) -> AsyncIterable[event_pb2.EventEnvelope]:
    async for frame in frames:
        for envelope in frame.events:
            yield envelope
