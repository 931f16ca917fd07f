"""Reports after every batch of fills, off the path of decisions; on demand; and the backtest of forecasts.

A batch is all fills of an account between two of its valuations: a function of the ledger alone, so
every run, and every recovery, makes the same reports. Each is measured in a thread, one at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.risk.v1 import events_pb2, risk_pb2
from python_services.kit import telemetry
from python_services.kit.context import Context
from python_services.kit.errors import from_exception, invalid, not_found, precondition
from python_services.kit.journal import Event, Journal
from python_services.kit.ledger_view import AccountView, LedgerView
from python_services.kit.signal import Signal, within
from python_services.kit.snapshots import Snapshot, SnapshotClient
from python_services.kit.views import Follower

from . import analysis, backtest, messages, report
from .config import Config
from .holdings import Held, columns, hold
from .measures import panel
from .state import RiskState
from .stress import Stress

HEARTBEAT_S = 5.0
RETRY_S = 0.25
DECISION_S = 0.25  # that a report waits for the verdict on the decision beside it
BACKTEST_DAYS = 1000
AT_ONCE = 4  # days of a backtest: half of the snapshots that a client keeps
_REPORTED = events_pb2.RiskReported.DESCRIPTOR.full_name
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass(frozen=True, kw_only=True)
class Valuation:
    """An account at one of its valuations."""

    held: Held
    snapshot_id: str
    ts_ns: int
    event_id: str
    correlation_id: str


class Valuations:
    """The valuations of every account, and those that closed a batch of fills. `valued` is told of them."""

    def __init__(self) -> None:
        self.latest: dict[str, deque[Valuation]] = {}
        self.batches: deque[Valuation] = deque()
        self.changed = asyncio.Event()
        self._fills: dict[str, int] = {}

    def valued(self, account: AccountView, snapshot_id: str, envelope: event_pb2.EventEnvelope) -> None:
        """Keeps what the account was at a valuation."""
        valuation = Valuation(
            held=hold(account),
            snapshot_id=snapshot_id,
            ts_ns=envelope.ts_event_ns,
            event_id=envelope.event_id,
            correlation_id=envelope.correlation_id,
        )
        kept = self.latest.setdefault(account.account_id, deque(maxlen=BACKTEST_DAYS + 1))
        if kept and kept[-1].ts_ns == valuation.ts_ns:
            kept.pop()
        kept.append(valuation)
        if account.fills != self._fills.get(account.account_id, 0):
            self._fills[account.account_id] = account.fills
            self.batches.append(valuation)
            self.changed.set()


class Reporter:
    """Measures accounts, publishes and streams the reports."""

    def __init__(
        self,
        context: Context[Config],
        view: LedgerView,
        follower: Follower,
        valuations: Valuations,
        snapshots: SnapshotClient,
        stress: Stress,
        journal: Journal,
        state: RiskState,
        decide: Callable[[Event], None],
    ) -> None:
        """`decide` adds an event of this service and applies it."""
        self._context = context
        self._config = context.config
        self._view = view
        self._follower = follower
        self._valuations = valuations
        self._snapshots = snapshots
        self._stress = stress
        self._journal = journal
        self._state = state
        self._decide = decide
        self._made = Signal()
        self._urged = asyncio.Event()
        self._durable = context.signal()
        journal.listen(lambda _frame: self._durable.notify())

    async def run(self) -> None:
        """Publishes the report of each batch until cancelled.

        A batch is closed by the valuation that a decision begins with. The decision has the processors first.
        """
        valuations = self._valuations
        while True:
            if valuations.batches:
                await within(self._urged, DECISION_S)
            while valuations.batches:
                await self._publish(valuations.batches[0])
                valuations.batches.popleft()
                self._made.notify()
            valuations.changed.clear()
            await valuations.changed.wait()
            self._urged.clear()

    def urge(self) -> None:
        """The decision is judged, or somebody waits for a report: what is due is made now."""
        self._urged.set()

    async def _publish(self, batch: Valuation) -> None:
        own = self._state.account(batch.held.account_id)
        if batch.held.seq <= own.reported_seq:
            return  # before a restart
        limits = own.limits_at(batch.ts_ns, self._config.limits)
        while True:
            try:
                snapshot = await self._snapshots.get(batch.snapshot_id)
                made = await asyncio.to_thread(
                    report.make, batch.held, snapshot, self._view.instruments, limits, self._config, self._stress
                )
                break
            except Exception as error:
                known = from_exception(error)
                if known is None:
                    raise
                if known.code not in _AWAY:
                    # The data set was changed under an old journal: this report can never be made.
                    telemetry.logger().error("no risk report", ledger_seq=batch.held.seq, error=known.message)
                    return
                await asyncio.sleep(RETRY_S)
        self._decide(
            Event(
                payload=events_pb2.RiskReported(report=made),
                ts_event_ns=batch.ts_ns,
                ts_init_ns=batch.ts_ns,
                causation_id=batch.event_id,
                correlation_id=batch.correlation_id,
            )
        )
        self._journal.commit_later()

    async def get(self, request: risk_pb2.GetRiskReportRequest) -> risk_pb2.GetRiskReportResponse:
        """A report of now; those of earlier batches are made first."""
        account_id = await self._account(request.account_id, request.min_seq)
        batches, upto = self._valuations.batches, self._follower.applied_seq
        self.urge()
        while batches and batches[0].held.seq <= upto:
            await self._made.next().wait()
        snapshot_id = request.snapshot_id or self._last(account_id).snapshot_id
        snapshot = await self._snapshots.get(snapshot_id)
        held, applied_seq = hold(self._view.account(account_id)), self._follower.applied_seq
        limits = self._state.account(account_id).limits
        made = await asyncio.to_thread(
            report.make, held, snapshot, self._view.instruments, limits, self._config, self._stress
        )
        await self._journal.barrier()  # limits that are not durable are not readable
        return risk_pb2.GetRiskReportResponse(report=made, applied_seq=applied_seq)

    async def watch(
        self, request: risk_pb2.WatchRiskReportsRequest
    ) -> AsyncIterator[risk_pb2.WatchRiskReportsResponse]:
        """Published reports that are durable, from from_seq on."""
        sent = request.from_seq - 1
        while not self._context.draining:
            changed = self._durable.next()
            for frame in list(self._journal.read(sent + 1)):
                found = _reports(frame, sent, request.account_id)
                sent = max(sent, frame.first_seq + frame.count - 1)
                if found:
                    yield risk_pb2.WatchRiskReportsResponse(seq=sent, reports=found)
            if not await within(changed, HEARTBEAT_S):
                yield risk_pb2.WatchRiskReportsResponse(seq=sent)
        reason = risk_pb2.WatchRiskReportsResponse.END_REASON_DRAINING
        yield risk_pb2.WatchRiskReportsResponse(seq=sent, end_reason=reason)

    async def backtest(self, request: risk_pb2.BacktestValueAtRiskRequest) -> risk_pb2.BacktestValueAtRiskResponse:
        """Forecasts of the latest days against their outcomes."""
        account_id = await self._account(request.account_id, request.min_seq)
        applied_seq = self._follower.applied_seq
        valuations = list(self._valuations.latest.get(account_id, ()))[-((request.max_days or BACKTEST_DAYS) + 1) :]
        days: list[backtest.Day] = []
        skipped = 0
        series: list[tuple[Valuation, Snapshot]] = []
        for first in range(0, len(valuations), AT_ONCE):
            chunk = valuations[first : first + AT_ONCE]
            fetched = await asyncio.gather(*(self._snapshots.get(valuation.snapshot_id) for valuation in chunk))
            series = [*series[-1:], *zip(chunk, fetched, strict=True)]
            found = await asyncio.to_thread(_days, series, self._view.instruments, self._config)
            days += [day for day in found if day is not None]
            skipped += sum(day is None for day in found)
        results = await asyncio.to_thread(backtest.results, days)
        return messages.backtest(days, results, skipped, applied_seq)

    async def _account(self, account_id: str, min_seq: int) -> str:
        await self._follower.wait_for(min_seq)
        known = self._view.accounts
        if account_id:
            return self._view.account(account_id).account_id
        if not known:
            raise not_found("account", "", "open one in execution first")
        if len(known) > 1:
            raise invalid("account_id", f"there are {len(known)} accounts", f"name one of {', '.join(sorted(known))}")
        return next(iter(known))

    def _last(self, account_id: str) -> Valuation:
        kept = self._valuations.latest.get(account_id)
        if not kept:
            raise precondition(
                "NEVER_VALUED",
                f"account {account_id} was never valued, so there is no snapshot of its own; give snapshot_id",
                account_id=account_id,
            )
        return kept[-1]


def _reports(frame: event_pb2.EventFrame, sent: int, account_id: str) -> list[risk_pb2.RiskReport]:
    found = [
        events_pb2.RiskReported.FromString(envelope.payload).report
        for envelope in frame.events
        if envelope.schema == _REPORTED and envelope.seq > sent
    ]
    return [made for made in found if account_id in ("", made.account_id)]


def _days(
    series: Sequence[tuple[Valuation, Snapshot]],
    instruments: Mapping[str, marketdata_pb2.Instrument],
    config: Config,
) -> list[backtest.Day | None]:
    """Each pair of neighbours as a day; None for one that says nothing. Days without positions are left out."""
    found: list[backtest.Day | None] = []
    for (then, snapshot), (later, after) in pairwise(series):
        if not then.held.quantities_e9:
            continue
        names, weights = report.held_weights(then.held, snapshot, instruments)
        history = panel(columns(snapshot.close, snapshot, names), config.minimum_history_bars, config.var_decay)
        tails = analysis.tails(weights, analysis.market(names, history, config.minimum_history_bars), config.report)
        gain = backtest.gain(names, weights, then.ts_ns, after)
        if not names or gain is None or any(tail.var is None for tail in tails):
            found.append(None)
        else:
            day = backtest.Day(forecast_ns=then.ts_ns, realized_ns=later.ts_ns, gain=gain, tails=tuple(tails))
            found.append(day)
    return found
