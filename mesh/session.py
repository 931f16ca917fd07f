"""One session, from the outside: ask the coordinator for it, and watch it to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation

import grpc

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from alphamesh.type.v1 import money_pb2
from python_services.kit.convert import NANO, money
from python_services.kit.errors import invalid, is_away
from python_services.kit.ids import request_id

from . import policy as policies
from .connect import System
from .errors import MeshError
from .wish import Wish

COST_PER_NOTIONAL = 0.0005
MAXIMUM_GROSS = 1.0
MINIMUM_TRADE_E9 = 500 * NANO
RECONNECT_S = 30.0
_DAY_NS = 86_400 * NANO

Progress = Callable[[decision_pb2.CycleProgress, decision_pb2.Session], None]


@dataclass(kw_only=True)
class Watched:
    """A session and its cycles, as they were seen."""

    session: decision_pb2.Session
    cycles: dict[int, decision_pb2.CycleProgress] = field(default_factory=dict)


def spec(wish: Wish) -> decision_pb2.SessionSpec:
    """The contract's form of a wish. Raises ServiceError that names the option, or PolicyError."""
    if wish.end < wish.start:
        raise invalid("end", f"{wish.end} is before start {wish.start}", "give a later --end")
    if not wish.instruments:
        raise invalid("instruments", "the universe is empty", "give --instruments, for example AAPL,MSFT")
    return decision_pb2.SessionSpec(
        start_ns=midnight_ns(wish.start),
        end_ns=midnight_ns(wish.end + timedelta(days=1)),
        instrument_ids=wish.instruments,
        account_id=wish.account,
        initial_cash=amount(wish.cash, wish.currency),
        lookback_bars=wish.lookback,
        mandate=decision_pb2.PortfolioMandate(
            method=wish.method,
            risk_aversion=wish.risk_aversion,
            maximum_weight=wish.maximum_weight,
            maximum_gross=MAXIMUM_GROSS,
            short_allowed=wish.short_allowed,
            cost_per_notional=COST_PER_NOTIONAL,
            maximum_turnover=wish.maximum_turnover,
            minimum_trade=money(MINIMUM_TRADE_E9, wish.currency),
        ),
        seed=wish.seed,
        policy=policies.load(wish.policy or policies.DEFAULT_PATH),
    )


def amount(text: str, currency: str, field: str = "cash") -> money_pb2.Money:
    """Exact money from a decimal. Raises ServiceError that names `field`."""
    try:
        value = Decimal(text.replace(",", "").replace("_", "")) * NANO
    except InvalidOperation:
        raise invalid(field, f"{text!r} is no number", "write it like 1000000 or 1000000.50") from None
    if not value.is_finite() or value <= 0 or value != value.to_integral_value():
        raise invalid(field, f"{text} is not positive or finer than a billionth", "write it like 1000000.50")
    return money(int(value), currency)


def midnight_ns(day: date) -> int:
    """Start of a day, Unix nanoseconds UTC."""
    return (day - date(1970, 1, 1)).days * _DAY_NS


def day_of(time_ns: int) -> str:
    """The UTC day of a moment, ISO 8601."""
    return datetime.fromtimestamp(time_ns // NANO, UTC).date().isoformat()


async def trade(system: System, wanted: decision_pb2.SessionSpec, progress: Progress) -> Watched:
    """Creates the session, or goes on with the one that was interrupted, and watches it to its end.

    Errors: those of CreateSession; MeshError when the data directory holds a session that has ended, or
    the coordinator stays away.
    """
    stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
    for earlier in (await stub.ListSessions(decision_pb2.ListSessionsRequest())).sessions:
        if earlier.state != decision_pb2.Session.STATE_RUNNING:
            raise MeshError(
                f"this data directory holds session {earlier.session_id}, which has ended; "
                "use another --data-dir for a new one, or `alphamesh explain` to look at this one"
            )
    key = request_id("create-session", wanted.SerializeToString(deterministic=True).hex())
    created = await stub.CreateSession(decision_pb2.CreateSessionRequest(request_id=key, spec=wanted))
    watched = Watched(session=created.session)
    loop = asyncio.get_running_loop()
    patience = loop.time() + RECONNECT_S
    while True:
        from_seq = max(watched.cycles, default=0) + 1
        request = decision_pb2.WatchSessionRequest(session_id=watched.session.session_id, from_seq=from_seq)
        reason = "the stream ended early"
        try:
            async for response in stub.WatchSession(request):
                patience = loop.time() + RECONNECT_S
                watched.session.CopyFrom(response.session)
                for cycle in response.cycles:
                    watched.cycles[cycle.seq] = cycle
                    progress(cycle, response.session)
                if response.end_reason == decision_pb2.WatchSessionResponse.END_REASON_SESSION_ENDED:
                    return watched
        except grpc.aio.AioRpcError as error:
            if not is_away(error):
                raise
            reason = error.details() or "it is unavailable"
        if loop.time() > patience:
            raise MeshError(f"the coordinator has not answered for {RECONNECT_S:g} s ({reason}); see `alphamesh logs`")
        await asyncio.sleep(0.2)
