"""One proposer: batches over a stream of its own, some unanswered at any time, and repeated until they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc

from .client import GIVE_UP_S, NO_ANSWER, Instrument, Limits, reason_of
from .commands import BUY, MODES, SELL
from .history import NEVER
from .ledger_check import E9, BrokenError
from .system import ChaosError, Links

Request = execution_pb2.ReserveExposureRequest
Response = execution_pb2.ReserveExposureResponse
Mood = Mapping[str, tuple[int, ...]]  # instruments that are proposed, and on which sides

REMEMBERED = 256  # batches of an agent that the ledger answers again
IN_FLIGHT = 2
ROWS = 25
STREAM_S = 30.0
PAUSE_S = 0.05
BOTH = (BUY, SELL)
EVERYTHING = ("AAPL", "GOOG", "IBM", "MSFT")
# Each crowds one limit; in the last whatever comes first.
MOODS: tuple[Mood, ...] = (
    *({name: BOTH} for name in EVERYTHING),  # its position
    {"AAPL": (BUY,), "IBM": (SELL,), "MSFT": BOTH},  # their sector: long and short offset in the net
    dict.fromkeys(EVERYTHING, (BUY,)),  # net long
    dict.fromkeys(EVERYTHING, (SELL,)),  # net short
    {"GOOG": (BUY,), "AAPL": (SELL,), "IBM": (SELL,), "MSFT": BOTH},  # gross
    dict.fromkeys(EVERYTHING, BOTH),
)
ROWS_A_MOOD = 3_000  # about twice what is in flight


@dataclass(kw_only=True)
class Tally:
    """What all proposers have in common: how much was judged, and when they were answered after a kill."""

    rows: int = 0
    struck: float = NEVER
    answered: float = NEVER
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def mood(self) -> Mood:
        """What is proposed now."""
        return MOODS[self.rows // ROWS_A_MOOD % len(MOODS)]

    def take(self, rows: int, asked: float) -> None:
        """A batch that was last sent at `asked` is answered."""
        self.rows += rows
        if asked > self.struck:
            self.answered = min(self.answered, time.monotonic())
        self.moved.set()


@dataclass(kw_only=True)
class Proposer:
    """An agent of the account."""

    name: str
    account: str
    links: Links
    random: random.Random
    instruments: Mapping[str, Instrument]
    limits: Limits
    tally: Tally
    unanswered: deque[Request] = field(default_factory=deque)
    answers: deque[tuple[Request, bytes]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    told: dict[int, tuple[Request, Response]] = field(default_factory=dict)  # not compared with the log yet
    _held: list[int] = field(default_factory=list)
    _batches: int = 0
    _mood: Mood = field(default_factory=dict)

    async def propose(self, over: asyncio.Event) -> None:
        """Until it is over and nothing is unanswered. Raises ChaosError, BrokenError."""
        last = time.monotonic()
        while self.unanswered or not over.is_set():
            known = self._batches - len(self.unanswered)
            try:
                await self._talk(over)
            except grpc.aio.AioRpcError as error:
                if self._batches - len(self.unanswered) > known:
                    last = time.monotonic()
                self._judge(error, last)
                await asyncio.sleep(PAUSE_S)

    async def again(self, last: int) -> int:
        """Asks for the last answers once more; how many. Raises BrokenError when one differs by a byte."""
        call = self._open()
        asked = list(self.answers)[-last:]
        for request, first in asked:
            await call.write(request)
            if (await call.read()).SerializeToString(deterministic=True) != first:
                raise BrokenError(f"batch {request.batch_number} of {self.name} is answered otherwise")
        await call.done_writing()
        return len(asked)

    async def _talk(self, over: asyncio.Event) -> None:
        """One stream: first whatever is unanswered, then new batches, some ahead of the answers."""
        call = self._open()
        sent: deque[float] = deque()
        try:
            for request in self.unanswered:
                await self._send(call, request, sent)
            while True:
                while len(self.unanswered) < IN_FLIGHT and not over.is_set():
                    self.unanswered.append(self._batch())
                    await self._send(call, self.unanswered[-1], sent)
                if not self.unanswered:
                    return
                self._take(await call.read(), sent.popleft())
        finally:
            call.cancel()

    async def _send(self, call: Any, request: Request, sent: deque[float]) -> None:
        sent.append(time.monotonic())
        with contextlib.suppress(asyncio.InvalidStateError):  # the stream is broken: the next read says how
            await call.write(request)

    def _take(self, response: Response, asked: float) -> None:
        request = self.unanswered.popleft()
        if response.batch_number != request.batch_number:
            raise BrokenError(f"{self.name}: {response.batch_number} is answered for {request.batch_number}")
        self.answers.append((request, response.SerializeToString(deterministic=True)))
        self.told[request.batch_number] = request, response
        self._held += [one for one in response.verdicts.reservation_ids if one]
        self.tally.take(len(response.verdicts.reservation_ids), asked)

    def _open(self) -> Any:
        """A stream that is written to and read from, one message at a time."""
        execution = self.links.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        return execution.ReserveExposure(None, timeout=STREAM_S)  # type: ignore[arg-type]

    def _judge(self, error: grpc.aio.AioRpcError, last: float) -> None:
        reason = reason_of(error)
        if reason and error.code() not in NO_ANSWER:
            raise ChaosError(f"{self.name} was refused: {error.code().name} {reason}: {error.details()}") from error
        if time.monotonic() - last > GIVE_UP_S:
            raise ChaosError(f"{self.name} was not answered for {GIVE_UP_S:g} s: {error}") from error

    # --- what is proposed ----------------------------------------------------------------------------

    def _batch(self) -> Request:
        """Gives back half of what it holds, all in another mood; now and then nothing else. Some is left to expire."""
        roll, mood = self.random, self.tally.mood
        share = 0.5 if mood is self._mood else 1.0
        self._mood = mood
        back = [one for one in self._held if roll.random() < share]
        self._held = [one for one in self._held if one not in set(back)]
        self._batches += 1
        request = Request(account_id=self.account, agent_id=self.name, batch_number=self._batches, release_ids=back)
        if not back or roll.random() > 0.05:
            self._fill(request.batch, mood, roll.randint(1, ROWS))
        return request

    def _fill(self, batch: execution_pb2.ReservationBatch, mood: Mood, rows: int) -> None:
        roll, names = self.random, list(mood)
        batch.basket_mode = roll.choice(MODES)
        batch.time_to_live_ns = roll.randint(2, 60) * E9
        for _ in range(rows):
            chosen = self.instruments[roll.choice(names)]
            side = roll.choice(mood[chosen.instrument_id])
            away = roll.uniform(0, 0.45)
            ticks = int(chosen.ticks * (1 - away if side == BUY else 1 + away)) if roll.random() < 0.9 else 0
            value = (ticks or chosen.ticks) * chosen.tick_e9 * chosen.lot_e9 * chosen.multiplier_e9
            most = 1.3 * self.limits.order_notional * E9**3 / value
            batch.instrument_ids.append(chosen.instrument_id)
            batch.sides.append(side)
            batch.price_bound_e9.append(ticks * chosen.tick_e9)
            batch.quantity_e9.append(int(most ** roll.random()) * chosen.lot_e9)
