"""What risk knows of each account by itself: limits and wanted state, rebuilt from its journal."""

from __future__ import annotations

from dataclasses import dataclass, field

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2
from python_services.kit.journal import Journal

from . import policy
from .config import Limits
from .ladder import Cause, Wanted


@dataclass(kw_only=True)
class AccountRisk:
    """One account. `changed_seq` is the event that last changed limits or state: the etag."""

    limits: Limits
    currency: str = ""  # of the limits' money; empty while they are the defaults
    wanted: Wanted = field(default_factory=Wanted)
    changed_seq: int = 0
    pushed_version: int = 0
    pushed_seq: int = 0  # ledger event of a push by this process
    reported_seq: int = 0  # ledger event of the last report that was published
    earlier: list[tuple[int, Limits]] = field(default_factory=list)  # (market time from which on, limits)

    @property
    def etag(self) -> str:
        """Changes with every change of limits or state."""
        return str(self.changed_seq)

    def limits_at(self, ts_ns: int, defaults: Limits) -> Limits:
        """The limits of a moment: a function of what was set, not of when it was read."""
        return next((limits for since_ns, limits in reversed(self.earlier) if since_ns <= ts_ns), defaults)


class RiskState:
    """All accounts. `apply` takes this service's own events, new ones and those of the journal alike."""

    def __init__(self, defaults: Limits) -> None:
        self._defaults = defaults
        self.accounts: dict[str, AccountRisk] = {}

    def account(self, account_id: str) -> AccountRisk:
        """What is known of the account; the defaults for one never heard of."""
        if account_id not in self.accounts:
            self.accounts[account_id] = AccountRisk(limits=self._defaults)
        return self.accounts[account_id]

    def recover(self, journal: Journal) -> None:
        """Rebuilds everything from what is durable."""
        for frame in journal.read(1):
            for envelope in frame.events:
                self.apply(envelope)

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes one event."""
        if envelope.schema == events_pb2.LimitsSet.DESCRIPTOR.full_name:
            limits = events_pb2.LimitsSet.FromString(envelope.payload)
            account = self.account(limits.account_id)
            account.limits = policy.from_message(limits.limits)
            account.earlier.append((envelope.ts_event_ns, account.limits))
            account.currency = limits.limits.order_minimum.currency_code
            account.changed_seq = envelope.seq
        elif envelope.schema == events_pb2.TradingStateRequested.DESCRIPTOR.full_name:
            state = events_pb2.TradingStateRequested.FromString(envelope.payload)
            account = self.account(state.account_id)
            account.wanted = Wanted(
                state=state.trading_state, cause=Cause(state.cause), reason=state.reason, ts_ns=envelope.ts_event_ns
            )
            account.changed_seq = envelope.seq
        elif envelope.schema == events_pb2.PortfolioAssessed.DESCRIPTOR.full_name:
            assessed = events_pb2.PortfolioAssessed.FromString(envelope.payload)
            self.account(assessed.account_id).pushed_version = assessed.assessment.policy_version
        elif envelope.schema == events_pb2.RiskReported.DESCRIPTOR.full_name:
            report = events_pb2.RiskReported.FromString(envelope.payload).report
            self.account(report.account_id).reported_seq = report.ledger_seq
