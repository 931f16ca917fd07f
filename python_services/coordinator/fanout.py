"""Asking all agent services at once: a deadline, a second attempt for stragglers, and late answers.

An agent never stops the cycle: whatever an agent service does, there is an answer or a reason at the deadline.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import grpc

from alphamesh.agent.v1 import agent_pb2
from alphamesh.decision.v1 import decision_pb2, policy_pb2
from python_services.kit import metrics, telemetry
from python_services.kit.breaker import BreakerOpenError
from python_services.kit.client import persist
from python_services.kit.errors import is_away

from .answers import Missing, Said, read, without_duplicates
from .clients import Clients

Cause = decision_pb2.MissingAgent.Cause
Response = agent_pb2.ComputeForecastsResponse
LEAST_S = 0.05  # a call with less time than this is not worth making
_KINDS = {number: name.removeprefix("KIND_") for name, number in agent_pb2.Agent.Kind.items()}


@dataclass(frozen=True, kw_only=True)
class Question:
    """What all of them are asked in one decision."""

    decision_id: str
    snapshot_id: str
    instruments: int


@dataclass(frozen=True, kw_only=True)
class Late:
    """An answer that came after the deadline."""

    decision_id: str
    service: str
    answer: Sequence[Said] | Missing


class Fanout:
    """Asks the agent services of one session. `late` is told of answers after the deadline."""

    def __init__(
        self, clients: Clients, policy: policy_pb2.CoordinationPolicy, late: Callable[[Late], Awaitable[None]]
    ) -> None:
        self._clients = clients
        self._deadline_s = policy.deadline_ns / 1e9
        self._hedge_s = policy.hedge_after_ns / 1e9 if policy.HasField("hedge_after_ns") else None
        self._late_s = policy.late_ns / 1e9 if policy.HasField("late_ns") else 0.0
        self._budget_ns = policy.deadline_ns
        self._late = late
        self._causes: dict[str, int | None] = {}
        self._waiting: set[asyncio.Task[None]] = set()
        self.listings: dict[str, dict[str, tuple[str, str]]] = {}  # service -> agent_id -> kind, version

    async def ask(self, question: Question) -> dict[str, Sequence[Said] | Missing]:
        """By service, in the order of the configuration: what its agents said, or why there is nothing."""
        names = list(self._clients.agents)
        found = await asyncio.gather(*(self._ask(name, question) for name in names))
        answers = without_duplicates(dict(zip(names, found, strict=True)))
        for name, answer in answers.items():
            cause = answer.cause if isinstance(answer, Missing) else None
            if isinstance(answer, Missing):
                counts.missing[Cause.Name(answer.cause)] += 1
                if self._causes.get(name) != cause:  # once, not in every decision until it is back
                    telemetry.logger().warning("agents missing", agents=name, reason=answer.reason)
            self._causes[name] = cause
        return answers

    async def close(self) -> None:
        """Waits for no late answer any more."""
        waiting = list(self._waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _ask(self, service: str, question: Question) -> Sequence[Said] | Missing:
        """The answer of an agent service, or why there is none.

        One that is away is asked again until the deadline: a restart within it costs no vote. One that stayed away
        for several decisions is not waited for any more, until a trial finds it back.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + self._deadline_s
        try:
            response = await self._clients.breakers[service].call(lambda: self._in_time(service, question))
            return await self._read(service, response, question, max(end - loop.time(), LEAST_S))
        except TimeoutError:
            return Missing(cause=Cause.CAUSE_LATE, reason=f"DEADLINE_EXCEEDED: no answer within {self._deadline_s:g} s")
        except BreakerOpenError as error:
            return Missing(cause=Cause.CAUSE_AWAY, reason=f"{error.reason}: {error.message}")
        except grpc.aio.AioRpcError as error:
            cause = Cause.CAUSE_AWAY if is_away(error) else Cause.CAUSE_FAILED
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                cause = Cause.CAUSE_LATE
            return Missing(cause=cause, reason=f"{error.code().name}: {error.details()}")

    async def _in_time(self, service: str, question: Question) -> Response:
        """Raises TimeoutError at the deadline; the answer may still come, and is then recorded as late."""
        answering = asyncio.ensure_future(self._answer(service, question))
        try:
            await asyncio.wait((answering,), timeout=self._deadline_s)
        except asyncio.CancelledError:
            answering.cancel()
            raise
        if answering.done():
            return await answering
        if self._late_s:
            task = asyncio.ensure_future(self._record_late(service, question, answering))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)
        else:
            answering.cancel()
        raise TimeoutError

    async def _answer(self, service: str, question: Question) -> Response:
        """The first answer of two attempts; the second is made when the first takes long."""
        compute = self._clients.agents[service].ComputeForecasts
        request = agent_pb2.ComputeForecastsRequest(
            decision_id=question.decision_id, snapshot_id=question.snapshot_id, budget_ns=self._budget_ns
        )
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._deadline_s

        def attempt() -> asyncio.Future[Response]:
            def call() -> Awaitable[Response]:
                return compute(request, timeout=max(deadline + self._late_s - loop.time(), LEAST_S))

            return asyncio.ensure_future(persist(call, deadline - loop.time()))

        attempts = {attempt()}
        try:
            done, _ = await asyncio.wait(attempts, timeout=self._hedge_s)
            if not done:
                counts.hedged += 1
                attempts.add(attempt())
            failed: BaseException | None = None
            pending = set(attempts)
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    failed = each.exception()
                    if failed is None:
                        counts.hedges_won += len(attempts) > 1
                        return each.result()
            assert failed is not None
            raise failed
        finally:
            for each in attempts:
                each.cancel()

    async def _read(
        self, service: str, response: Response, question: Question, patience_s: float
    ) -> Sequence[Said] | Missing:
        listed = self.listings.get(service)
        said = {forecast.agent_id: forecast.agent_version for forecast in response.forecasts}
        if listed is None or any(name not in listed or listed[name][1] != said[name] for name in said):
            listed = self.listings[service] = await self._list(service, patience_s)
        return read(response, question.snapshot_id, question.instruments, listed)

    async def _list(self, service: str, patience_s: float) -> dict[str, tuple[str, str]]:
        """Errors of ListAgents pass through."""
        request = agent_pb2.ListAgentsRequest()
        stub = self._clients.agents[service]
        answer = await persist(lambda: stub.ListAgents(request, timeout=patience_s), patience_s)
        return {agent.agent_id: (_KINDS.get(agent.kind, "UNSPECIFIED"), agent.version) for agent in answer.agents}

    async def _record_late(self, service: str, question: Question, answering: asyncio.Future[Response]) -> None:
        try:
            response = await answering
            answer = await self._read(service, response, question, self._deadline_s)
        except asyncio.CancelledError:
            answering.cancel()
            raise
        except grpc.aio.AioRpcError as error:
            telemetry.logger().warning("no late answer either", agents=service, error=error.details())
            return
        await self._late(Late(decision_id=question.decision_id, service=service, answer=answer))


class Counts:
    """Of this process, for /metrics."""

    def __init__(self) -> None:
        self.hedged = 0
        self.hedges_won = 0
        self.missing: Counter[str] = Counter()


counts = Counts()


def show_counts() -> None:
    """Puts the counts among the service's metrics."""
    metrics.figure("alphamesh_agents_hedged_total", "Second attempts at slow agents.", lambda: counts.hedged)
    metrics.figure("alphamesh_agents_hedged_answered_total", "Of them answered.", lambda: counts.hedges_won)
    for cause in Cause.keys():  # noqa: SIM118 - an enum of protobuf, no dict
        if cause != "CAUSE_UNSPECIFIED":
            name = f"alphamesh_agents_missing_{cause.removeprefix('CAUSE_').lower()}_total"
            metrics.figure(name, "Agent services without a part in a decision.", lambda c=cause: counts.missing[c])
