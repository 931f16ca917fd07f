"""A client that does what a client must: it repeats the same request until it is answered."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from alphamesh.execution.v1 import execution_pb2_grpc, order_pb2

from .history import History, Operation
from .system import ChaosError, Links, Mesh

# Nobody answered, so nobody knows: ask again.
NO_ANSWER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
    }
)
ATTEMPT_S = 2.0
PAUSE_S = 0.01
GIVE_UP_S = 330.0  # longer than a start may take
LOOSE = 1_000_000_000  # a limit that does not bind


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """What it takes to write an order: increments and the mark that the ledger was given last."""

    instrument_id: str
    tick_e9: int
    lot_e9: int
    multiplier_e9: int
    mark_e9: int

    @property
    def ticks(self) -> int:
        """The mark in ticks, half up, as the ledger rounds a reference price."""
        return (2 * self.mark_e9 + self.tick_e9) // (2 * self.tick_e9)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a policy of these tests binds, in whole units of money."""

    order_notional: int
    position: int
    gross: int
    sector: int = LOOSE
    net: int = LOOSE


@dataclass(kw_only=True)
class Client:
    """One caller of one account. `near`: its orders are meant to fill; otherwise they rest for ever."""

    name: str
    account: str
    near: bool
    links: Links
    history: History
    random: random.Random
    instruments: dict[str, Instrument]
    limits: Limits
    open: dict[str, order_pb2.OrderSpec] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)  # what a command keeps from one turn to the next

    @classmethod
    def of(cls, mesh: Mesh, **settings: Any) -> Client:
        """With connections of its own."""
        return cls(links=Links(mesh), **settings)

    @property
    def execution(self) -> execution_pb2_grpc.ExecutionServiceAsyncStub:
        """The ledger."""
        return self.links.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")  # type: ignore[return-value]

    def new_id(self) -> str:
        """A request id that only depends on the seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    async def insist(
        self,
        command: str,
        method: Callable[..., Awaitable[Any]],
        request: Any,
        *,
        expected: frozenset[str] = frozenset(),
    ) -> Operation:
        """Sends `request` until it is answered. `expected`: reasons of refusals that are outcomes.

        Raises ChaosError for any other error, and when nobody answers for very long.
        """
        operation = self.history.call(self.name, command, self.account, method, request)
        while True:
            operation.attempts.append(time.monotonic())
            try:
                operation.response = await method(request, timeout=ATTEMPT_S)
                operation.answered = time.monotonic()
                return operation
            except grpc.aio.AioRpcError as error:
                moment = time.monotonic()
                reason = reason_of(error)
                # Whatever a service refuses it gives a reason for; without one the transport has failed.
                if reason and error.code() not in NO_ANSWER:
                    operation.error = f"{error.code().name} {reason}"
                    operation.answered = moment
                    if reason in expected:
                        return operation
                    raise ChaosError(f"{command} of {self.name}: {operation.error}: {error.details()}") from error
                if moment - operation.called > GIVE_UP_S:
                    raise ChaosError(
                        f"{command} of {self.name} was not answered for {GIVE_UP_S:g} s: {error}"
                    ) from error
            await asyncio.sleep(PAUSE_S)


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """`reason` of the ErrorInfo that every refusal carries; empty for none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if detail.Unpack(info):
                    return info.reason
    return ""
