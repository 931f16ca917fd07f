"""One decision cycle: market -> snapshot -> forecasts -> aggregate -> portfolio -> risk -> record -> orders.

Every step carries a request_id made from the decision, so a cycle that was interrupted is simply run
again: the services answer what they answered before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from alphamesh.decision.v1 import decision_pb2, events_pb2
from alphamesh.execution.v1 import execution_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import money_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import telemetry, tracing
from python_services.kit.client import persist
from python_services.kit.ids import request_id
from python_services.kit.journal import Event, Journal

from .actions import act
from .answers import Missing, Said
from .clients import Clients
from .config import Config
from .deliberation import deliberate, learn
from .desk import Desk
from .fanout import Fanout, Late, Question
from .memory import Memory
from .steps import Steps

D = decision_pb2.Decision


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a cycle leads to."""

    decision: decision_pb2.Decision
    equity: money_pb2.Money
    steps: Steps


class Cycle:
    """Runs the cycles of one session."""

    def __init__(
        self,
        config: Config,
        clients: Clients,
        journal: Journal,
        session: decision_pb2.Session,
        memory: Memory,
    ) -> None:
        self._config = config
        self._clients = clients
        self._journal = journal
        self._session = session
        self._spec = session.spec
        self._memory = memory
        self._fanout = Fanout(clients, session.spec.policy, self._record_late)
        self._desk = Desk(config, clients, session.spec)
        self._now_ns = session.spec.start_ns

    async def run(
        self, number: int, close_ns: int, previous_ns: int | None, recorded: decision_pb2.Decision | None
    ) -> Outcome:
        """Decides at `close_ns`. `recorded` is the decision if an interrupted run recorded it already.

        `previous_ns`: the close before, after which corporate actions are due; None for the first cycle.
        """
        self._now_ns = close_ns
        decision_id = f"{self._session.session_id}-{number:04d}"
        facts: dict[str, str | int] = {"alphamesh.session_id": self._session.session_id, "alphamesh.cycle": number}
        with tracing.decision(decision_id, facts):
            outcome = await self._run(decision_id, number, close_ns, previous_ns, recorded)
            facts["alphamesh.snapshot_id"] = outcome.decision.snapshot_id
            facts["alphamesh.outcome"] = D.Outcome.Name(outcome.decision.outcome).removeprefix("OUTCOME_")
        return outcome

    async def _run(
        self,
        decision_id: str,
        number: int,
        close_ns: int,
        previous_ns: int | None,
        recorded: decision_pb2.Decision | None,
    ) -> Outcome:
        steps = Steps()
        with steps.timed("cycle"):
            decision = recorded or decision_pb2.Decision(
                decision_id=decision_id,
                session_id=self._session.session_id,
                cycle=number,
                as_of_ns=close_ns,
                account_id=self._spec.account_id,
            )
            synced, answers = await self._observe(decision, previous_ns, steps, decided=recorded is not None)
            if recorded is None:
                decision.ledger_seq = synced.applied_seq
                await self._decide(decision, answers, steps)
            async with steps.step("submit"):
                await self._desk.submit(decision)
        return Outcome(decision=decision, equity=synced.account.equity, steps=steps)

    async def _observe(
        self, decision: decision_pb2.Decision, previous_ns: int | None, steps: Steps, *, decided: bool
    ) -> tuple[execution_pb2.SyncMarketResponse, Mapping[str, Sequence[Said] | Missing]]:
        """The account, and the agents' answers; puts the snapshot and what it teaches into the decision.

        `decided`: an interrupted run made the decision already, so that nobody is asked.
        """
        patience, decision_id, close_ns = self._config.step_retry_s, decision.decision_id, decision.as_of_ns

        async def advance() -> venue_pb2.AdvanceMarketResponse:
            if previous_ns is not None:
                async with steps.step("corporate_actions"):
                    await act(
                        self._clients,
                        decision_id,
                        self._spec,
                        previous_ns=previous_ns,
                        close_ns=close_ns,
                        patience_s=patience,
                    )
            request = venue_pb2.AdvanceMarketRequest(
                request_id=request_id(decision_id, "advance"),
                to_ns=close_ns,
                instrument_ids=self._spec.instrument_ids,
            )
            async with steps.step("advance_market"):
                return await persist(lambda: self._clients.market.AdvanceMarket(request), patience)

        async def cut() -> marketdata_pb2.SnapshotHeader:
            request = marketdata_pb2.CutSnapshotRequest(
                request_id=request_id(decision_id, "snapshot"),
                as_of_ns=close_ns,
                instrument_ids=self._spec.instrument_ids,
                lookback_bars=self._spec.lookback_bars,
            )
            async with steps.step("snapshot"):
                header = (await persist(lambda: self._clients.market_data.CutSnapshot(request), patience)).header
            if not decided:
                decision.snapshot_id = header.snapshot_id
                decision.instrument_ids.extend(header.instrument_ids)
            return header

        # Agents look at the snapshot alone: they do not wait until the market has moved on.
        cutting = asyncio.ensure_future(cut())

        async def sync() -> execution_pb2.SyncMarketResponse:
            advanced, header = await asyncio.gather(advance(), cutting)
            request = execution_pb2.SyncMarketRequest(
                request_id=request_id(decision_id, "sync"),
                account_id=self._spec.account_id,
                snapshot_id=header.snapshot_id,
                min_venue_seq=advanced.last_seq,
                decision_id=decision_id,
            )
            async with steps.step("sync_market"):
                return await persist(lambda: self._clients.execution.SyncMarket(request), patience)

        async def forecast() -> dict[str, Sequence[Said] | Missing]:
            header = await cutting
            question = Question(
                decision_id=decision_id, snapshot_id=header.snapshot_id, instruments=len(header.instrument_ids)
            )
            async with steps.step("forecast"):
                return await self._fanout.ask(question)

        async def look_back() -> None:
            """While the agents think: the market's regime, and what became of earlier forecasts."""
            header = await cutting
            async with steps.step("score"):
                snapshot = await persist(lambda: self._clients.snapshots.get(header.snapshot_id), patience)
                learn(decision, snapshot.close, self._memory)

        if decided:
            return await sync(), {}
        answers, synced, _ = await asyncio.gather(forecast(), sync(), look_back())
        return synced, answers

    async def _decide(
        self, decision: decision_pb2.Decision, answers: Mapping[str, Sequence[Said] | Missing], steps: Steps
    ) -> None:
        """Fills the decision, and makes it durable together with what it says about the agents."""
        policy, close_ns = self._spec.policy, decision.as_of_ns
        seen = self._memory.roster.news(self._listings())
        async with steps.step("aggregate"):
            memory = replace(self._memory)
            for registered in seen:
                memory.registered(registered, close_ns)
            view = deliberate(decision, answers, policy, memory, self._config.horizon_bars)
        if view.combined is None:
            decision.outcome = D.OUTCOME_HOLD_NO_QUORUM
            decision.explanation = f"{view.problem}: positions are held"
        else:
            await self._desk.trade(decision, view, steps)
        async with steps.step("record"):
            self._memory.draft = view.draft
            roster = self._memory.roster  # a person may have changed it meanwhile
            for registered in seen:
                roster = roster.registered(registered, close_ns)
            changes = roster.decided(decision).judged(policy.lifecycle, view.draft.record, decision.decision_id)
            facts = [*seen, events_pb2.DecisionMade(decision=decision), *changes]
            self._journal.add(
                [
                    Event(payload=fact, ts_event_ns=close_ns, ts_init_ns=close_ns, correlation_id=decision.decision_id)
                    for fact in facts
                ]
            )
            await self._journal.commit()

    def _listings(self) -> dict[str, list[tuple[str, str, str]]]:
        return {
            service: [(name, kind, version) for name, (kind, version) in sorted(agents.items())]
            for service, agents in sorted(self._fanout.listings.items())
        }

    async def _record_late(self, late: Late) -> None:
        """An answer after the deadline: recorded, and no part of any decision."""
        refused = isinstance(late.answer, Missing)
        event = events_pb2.AnswerLate(
            decision_id=late.decision_id,
            service=late.service,
            agent_ids=[] if isinstance(late.answer, Missing) else [said.estimate.agent_id for said in late.answer],
            result=late.answer.reason if isinstance(late.answer, Missing) else "ANSWERED",
        )
        telemetry.logger().warning("late answer", agents=late.service, decision=late.decision_id, refused=refused)
        now_ns = self._now_ns
        self._journal.add(
            [Event(payload=event, ts_event_ns=now_ns, ts_init_ns=now_ns, correlation_id=late.decision_id)]
        )
        await self._journal.commit()

    async def close(self) -> None:
        """Waits for no late answer any more."""
        await self._fanout.close()
