"""Sessions: started, resumed after a restart, ended; rebuilt from the coordinator's own stream."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import decision_pb2, events_pb2, roster_pb2
from alphamesh.execution.v1 import execution_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import telemetry
from python_services.kit.client import persist
from python_services.kit.errors import ServiceError, not_found, precondition
from python_services.kit.ids import content_id, request_id
from python_services.kit.journal import Event, Journal
from python_services.kit.signal import Signal

from .clients import Clients
from .config import Config
from .cycle import Cycle, Outcome
from .memory import Memory
from .roster import Member

SESSION_ID_LENGTH = 12
State = decision_pb2.Session.State


def session_id(spec: decision_pb2.SessionSpec) -> str:
    """The same spec has the same id, so its decisions and orders have the same ids in every run."""
    return content_id(spec.SerializeToString(deterministic=True))[:SESSION_ID_LENGTH]


class Sessions:
    """All sessions of this data directory: one, running or ended."""

    def __init__(
        self, config: Config, clients: Clients, journal: Journal, instrument_ids: Collection[str], changed: Signal
    ) -> None:
        self._config = config
        self._clients = clients
        self._journal = journal
        self._instrument_ids = instrument_ids
        self._cancelled = False
        self.sessions: dict[str, decision_pb2.Session] = {}
        self.decisions: dict[str, tuple[decision_pb2.Decision, int, bytes]] = {}
        self.progress: list[decision_pb2.CycleProgress] = []
        self.changed = changed
        self.memory = Memory()
        for frame in journal.read(1):
            self._take(frame)
        journal.listen(self._take)

    def get(self, identifier: str) -> decision_pb2.Session:
        """A session. Raises ServiceError (NOT_FOUND)."""
        if identifier not in self.sessions:
            raise not_found("session", identifier)
        return self.sessions[identifier]

    def member(self, agent_id: str) -> Member:
        """An agent. Raises ServiceError (NOT_FOUND)."""
        found = self.memory.roster.members.get(agent_id)
        if found is None:
            known = ", ".join(sorted(self.memory.roster.members)) or "none yet; a session's first decision finds them"
            raise not_found("agent", agent_id, f"there are {known}")
        return found

    def set_state(self, member: Member, state: roster_pb2.AgentState.ValueType, reason: str) -> Member:
        """Records what a person wants of an agent, at the market time of the latest decision; as it then is."""
        started = max(session.spec.start_ns for session in self.sessions.values())
        ts_ns = self.progress[-1].as_of_ns if self.progress else started
        changed = events_pb2.AgentStateChanged(
            agent_id=member.agent_id, from_state=member.state, to_state=state, reason=reason
        )
        self._journal.add([Event(payload=changed, ts_event_ns=ts_ns, ts_init_ns=ts_ns)])
        return self.memory.roster.changed(changed, ts_ns).members[member.agent_id]

    @property
    def running(self) -> decision_pb2.Session | None:
        """The session in progress."""
        return next((s for s in self.sessions.values() if s.state == State.STATE_RUNNING), None)

    async def create(self, spec: decision_pb2.SessionSpec) -> decision_pb2.Session:
        """Checks the spec, opens the account and records the start."""
        for session in self.sessions.values():
            raise precondition(
                "SESSION_EXISTS",
                f"this data directory holds session {session.session_id} "
                f"({State.Name(session.state).removeprefix('STATE_').lower()}); use another --data-dir for a new one",
                session_id=session.session_id,
            )
        unknown = [name for name in spec.instrument_ids if name not in self._instrument_ids]
        if unknown:
            raise not_found("instrument", unknown[0], f"known: {', '.join(sorted(self._instrument_ids)[:20])}")
        days = await self._trading_days(spec)
        session = decision_pb2.Session(
            session_id=session_id(spec), spec=spec, state=State.STATE_RUNNING, cycles_total=len(days)
        )
        opened = await self._clients.execution.OpenAccount(
            execution_pb2.OpenAccountRequest(
                request_id=request_id(session.session_id, "open"),
                account_id=spec.account_id,
                cash=spec.initial_cash,
                ts_event_ns=spec.start_ns,
            )
        )
        account = await self._clients.execution.GetAccount(
            execution_pb2.GetAccountRequest(account_id=spec.account_id, min_seq=opened.applied_seq)
        )
        self._record(events_pb2.SessionStarted(session=session, ledger_hash=account.event_hash), spec.start_ns)
        return session

    async def run(self, session: decision_pb2.Session) -> None:
        """Runs the cycles that are left, then ends the session. Never raises for a failed cycle."""
        spec = session.spec
        days = await persist(lambda: self._trading_days(spec), self._config.step_retry_s)
        cycle = Cycle(self._config, self._clients, self._journal, session, self.memory)
        done = max((d.cycle for d, _, _ in self.decisions.values() if d.session_id == session.session_id), default=0)
        state, reason, last_ns = State.STATE_SUCCEEDED, "", days[0]
        loop = asyncio.get_running_loop()
        try:
            # The last recorded cycle is repeated: its orders may not have been submitted yet.
            for number in range(max(done, 1), len(days) + 1):
                if self._cancelled:
                    state, reason = State.STATE_CANCELED, "cancelled on request"
                    break
                begun = loop.time()
                last_ns, previous_ns = days[number - 1], days[number - 2] if number > 1 else None
                recorded = self.decisions.get(f"{session.session_id}-{number:04d}")
                self._note(await cycle.run(number, last_ns, previous_ns, None if recorded is None else recorded[0]))
                if self._config.pace_s and number < len(days):
                    await asyncio.sleep(begun + self._config.pace_s - loop.time())
        except (grpc.aio.AioRpcError, ServiceError) as error:
            details = error.details() if isinstance(error, grpc.aio.AioRpcError) else error.message
            telemetry.logger().error("session failed", session_id=session.session_id, exc_info=error)
            state, reason = State.STATE_FAILED, f"cycle of {last_ns}: {details}"
        finally:
            await cycle.close()
        await self._end(session, state, reason, last_ns)

    def cancel(self) -> None:
        """Ends the running session after the cycle in progress."""
        self._cancelled = True

    async def _end(
        self, session: decision_pb2.Session, state: decision_pb2.Session.State.ValueType, reason: str, ts_ns: int
    ) -> None:
        account_id = session.spec.account_id
        ended = events_pb2.SessionEnded(session=session)
        try:
            await persist(
                lambda: self._clients.execution.CancelAllOrders(
                    execution_pb2.CancelAllOrdersRequest(
                        request_id=request_id(session.session_id, "end"), account_id=account_id, reason="session ended"
                    )
                ),
                self._config.step_retry_s,
            )
            account = await self._clients.execution.GetAccount(execution_pb2.GetAccountRequest(account_id=account_id))
            ended.ledger_hash, ended.ledger_seq = account.event_hash, account.applied_seq
        except grpc.aio.AioRpcError as error:
            state, reason = State.STATE_FAILED, f"{reason or 'could not cancel open orders'}: {error.details()}"
        ended.session.state, ended.session.reason = state, reason
        ended.session.cycles_done = len(self.progress)
        self._record(ended, ts_ns)
        await self._journal.commit()

    async def _trading_days(self, spec: decision_pb2.SessionSpec) -> list[int]:
        request = marketdata_pb2.ListTradingDaysRequest(
            start_ns=spec.start_ns, end_ns=spec.end_ns, instrument_ids=spec.instrument_ids
        )
        days = (await self._clients.market_data.ListTradingDays(request)).close_ns
        before = marketdata_pb2.ListTradingDaysRequest(
            start_ns=0, end_ns=days[0] + 1, instrument_ids=spec.instrument_ids
        )
        history = len((await self._clients.market_data.ListTradingDays(before)).close_ns)
        if history < spec.lookback_bars:
            raise ServiceError(
                grpc.StatusCode.OUT_OF_RANGE,
                "WARM_UP_TOO_SHORT",
                f"lookback_bars is {spec.lookback_bars}, but only {history} trading days are known at the start; "
                "start later or lower lookback_bars",
            )
        return list(days)

    def _record(self, payload: events_pb2.SessionStarted | events_pb2.SessionEnded, ts_ns: int) -> None:
        event = Event(payload=payload, ts_event_ns=ts_ns, ts_init_ns=ts_ns, correlation_id=payload.session.session_id)
        self._journal.add([event])

    def _note(self, outcome: Outcome) -> None:
        progress = self.progress[outcome.decision.cycle - 1]
        progress.equity.CopyFrom(outcome.equity)
        del progress.latencies[:]
        for step, elapsed_ns in outcome.steps.elapsed_ns.items():
            progress.latencies.add(step=step, elapsed_ns=elapsed_ns)
        session = self.sessions[outcome.decision.session_id]
        session.cycles_done = max(session.cycles_done, outcome.decision.cycle)
        self.changed.notify()

    def _take(self, frame: event_pb2.EventFrame) -> None:
        for envelope in frame.events:
            self._apply(envelope)

    def _apply(self, envelope: event_pb2.EventEnvelope) -> None:
        name = envelope.schema.rpartition(".")[2]
        if name == "SessionStarted":
            started = events_pb2.SessionStarted.FromString(envelope.payload)
            self.sessions[started.session.session_id] = started.session
        elif name == "DecisionMade":
            decision = events_pb2.DecisionMade.FromString(envelope.payload).decision
            self.decisions[decision.decision_id] = decision, envelope.seq, envelope.hash
            self.progress.append(
                decision_pb2.CycleProgress(
                    seq=decision.cycle,
                    decision_id=decision.decision_id,
                    as_of_ns=decision.as_of_ns,
                    outcome=decision.outcome,
                )
            )
            self.memory.decided(decision, self.sessions[decision.session_id].spec.policy.weighting)
        elif name == "AgentRegistered":
            self.memory.registered(events_pb2.AgentRegistered.FromString(envelope.payload), envelope.ts_event_ns)
        elif name == "AgentStateChanged":
            self.memory.changed(events_pb2.AgentStateChanged.FromString(envelope.payload), envelope.ts_event_ns)
        elif name == "SessionEnded":
            ended = events_pb2.SessionEnded.FromString(envelope.payload).session
            ended.final_event_hash = envelope.hash
            self.sessions[ended.session_id] = ended
        self.changed.notify()
