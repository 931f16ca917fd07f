"""The coordinator's servicer."""

from __future__ import annotations

from collections.abc import AsyncIterator

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from python_services.kit import paging
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import not_found, precondition
from python_services.kit.instruments import list_instruments
from python_services.kit.journal import Journal
from python_services.kit.signal import within

from .clients import connect
from .config import Config
from .fanout import show_counts
from .roster import ACTIVE, PAUSED
from .roster_messages import to_message
from .sessions import Sessions

HEARTBEAT_S = 5.0
PAGE_BYTES = 16 * 1024 * 1024  # decisions about hundreds of instruments are half a megabyte each
State = decision_pb2.Session.State
EndReason = decision_pb2.WatchSessionResponse.EndReason


class Coordinator(decision_pb2_grpc.DecisionServiceServicer):
    """Translates messages to sessions and back."""

    def __init__(self, context: Context[Config], sessions: Sessions, journal: Journal) -> None:
        self._context = context
        self._sessions = sessions
        self._journal = journal

    async def CreateSession(
        self, request: decision_pb2.CreateSessionRequest, context: object
    ) -> decision_pb2.CreateSessionResponse:
        """Starts a session in the background."""
        session = await self._sessions.create(request.spec)
        response = decision_pb2.CreateSessionResponse(session=session)
        await self._journal.commit(response)
        self._context.spawn(self._sessions.run(session), f"session-{session.session_id}")
        return response

    async def GetSession(
        self, request: decision_pb2.GetSessionRequest, context: object
    ) -> decision_pb2.GetSessionResponse:
        """One session."""
        return decision_pb2.GetSessionResponse(session=self._sessions.get(request.session_id))

    async def ListSessions(
        self, request: decision_pb2.ListSessionsRequest, context: object
    ) -> decision_pb2.ListSessionsResponse:
        """All sessions, newest first."""
        newest_first = list(reversed(self._sessions.sessions.values()))
        listed, token = paging.page(newest_first, request.page_size, request.page_token, scope="ListSessions")
        return decision_pb2.ListSessionsResponse(sessions=listed, next_page_token=token)

    async def CancelSession(
        self, request: decision_pb2.CancelSessionRequest, context: object
    ) -> decision_pb2.CancelSessionResponse:
        """Ends a session after the cycle in progress."""
        session = self._sessions.get(request.session_id)
        if session.state != State.STATE_RUNNING:
            raise precondition("SESSION_ENDED", f"session {request.session_id} has ended; there is nothing to cancel")
        self._sessions.cancel()
        response = decision_pb2.CancelSessionResponse(session=session)
        await self._journal.commit(response)
        return response

    async def WatchSession(
        self, request: decision_pb2.WatchSessionRequest, context: object
    ) -> AsyncIterator[decision_pb2.WatchSessionResponse]:
        """Cycles as they end."""
        sessions = self._sessions
        sent = request.from_seq - 1
        while not self._context.draining:
            changed = sessions.changed.next()
            session = sessions.get(request.session_id)
            ended = session.state != State.STATE_RUNNING
            finished = len(sessions.progress) if ended else session.cycles_done
            if sent < finished or ended:
                cycles = sessions.progress[sent:finished]
                sent = finished
                reason = EndReason.END_REASON_SESSION_ENDED if ended else EndReason.END_REASON_UNSPECIFIED
                yield decision_pb2.WatchSessionResponse(cycles=cycles, session=session, end_reason=reason)
                if ended:
                    return
                continue
            if not await within(changed, HEARTBEAT_S):
                yield decision_pb2.WatchSessionResponse(session=session)
        session = sessions.get(request.session_id)
        yield decision_pb2.WatchSessionResponse(session=session, end_reason=EndReason.END_REASON_DRAINING)

    async def GetDecision(
        self, request: decision_pb2.GetDecisionRequest, context: object
    ) -> decision_pb2.GetDecisionResponse:
        """One decision with its lineage."""
        found = self._sessions.decisions.get(request.decision_id)
        if found is None:
            raise not_found("decision", request.decision_id, "list them with ListDecisions")
        decision, seq, event_hash = found
        return decision_pb2.GetDecisionResponse(decision=decision, seq=seq, event_hash=event_hash)

    async def ListDecisions(
        self, request: decision_pb2.ListDecisionsRequest, context: object
    ) -> decision_pb2.ListDecisionsResponse:
        """Decisions of a session, oldest first."""
        self._sessions.get(request.session_id)
        decisions = [d for d, _, _ in self._sessions.decisions.values() if d.session_id == request.session_id]
        scope = f"ListDecisions.{request.session_id}"
        largest = max((decision.ByteSize() for decision in decisions), default=1)
        size = min(request.page_size or 100, max(PAGE_BYTES // largest, 1))
        listed, token = paging.page(decisions, size, request.page_token, scope=scope)
        return decision_pb2.ListDecisionsResponse(decisions=listed, next_page_token=token)

    async def ListAgents(
        self, request: decision_pb2.ListAgentsRequest, context: object
    ) -> decision_pb2.ListAgentsResponse:
        """All agents that were seen, by agent_id."""
        memory = self._sessions.memory
        found = [to_message(member, memory.record) for _, member in sorted(memory.roster.members.items())]
        listed, token = paging.page(found, request.page_size, request.page_token, scope="ListAgents")
        return decision_pb2.ListAgentsResponse(agents=listed, next_page_token=token)

    async def GetAgent(self, request: decision_pb2.GetAgentRequest, context: object) -> decision_pb2.GetAgentResponse:
        """One agent."""
        member = self._sessions.member(request.agent_id)
        return decision_pb2.GetAgentResponse(agent=to_message(member, self._sessions.memory.record))

    async def PauseAgent(
        self, request: decision_pb2.PauseAgentRequest, context: object
    ) -> decision_pb2.PauseAgentResponse:
        """Recorded and without weight from the next decision on."""
        await self._journal.barrier()
        member = self._sessions.member(request.agent_id)
        if member.state == PAUSED:
            raise precondition("AGENT_PAUSED", f"agent {member.agent_id} is paused already: {member.reason}")
        agent = self._sessions.set_state(member, PAUSED, request.reason)
        response = decision_pb2.PauseAgentResponse(agent=to_message(agent, self._sessions.memory.record))
        await self._journal.commit(response)
        return response

    async def ResumeAgent(
        self, request: decision_pb2.ResumeAgentRequest, context: object
    ) -> decision_pb2.ResumeAgentResponse:
        """Heard again from the next decision on."""
        await self._journal.barrier()
        member = self._sessions.member(request.agent_id)
        if member.state == ACTIVE:
            raise precondition("AGENT_ACTIVE", f"agent {member.agent_id} is active; there is nothing to resume")
        agent = self._sessions.set_state(member, ACTIVE, request.reason)
        response = decision_pb2.ResumeAgentResponse(agent=to_message(agent, self._sessions.memory.record))
        await self._journal.commit(response)
        return response


async def build(context: Context[Config]) -> None:
    """Rebuilds sessions and decisions from the journal; a session that was interrupted goes on."""
    clients = connect(context)
    instruments = await list_instruments(clients.market_data)
    journal = context.open_journal()
    sessions = Sessions(context.config, clients, journal, instruments, context.signal())
    show_counts()
    if sessions.running is not None:
        context.spawn(sessions.run(sessions.running), "resumed-session")
    servicer = Coordinator(context, sessions, journal)
    register = decision_pb2_grpc.add_DecisionServiceServicer_to_server
    context.add(register, servicer, "alphamesh.decision.v1.DecisionService")


DEFINITION = ServiceDefinition(name="coordinator", version="0.1.0", config=Config, build=build)
