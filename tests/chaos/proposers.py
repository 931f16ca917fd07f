"""Many proposers against the tight limits of one account, and the ledger killed under them again and again.

Nothing moves but what they reserve and give back, so no event may take the account above any limit, and whatever the
proposers do to each other, each limit must be reached to the last lot.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from alphamesh.execution.v1 import events_pb2, execution_pb2

from .client import GIVE_UP_S, Client, Limits
from .commands import BUY
from .faults import Kill
from .history import NEVER, History
from .ledger_check import E9, SCALE, Books, BrokenError, Chain, compare_account, follow
from .market import Market
from .proposer import EVERYTHING, REMEMBERED, Proposer, Request, Response, Tally
from .system import Links, Mesh

ACCOUNT = "crowd"
PROPOSERS = 64
# None of them follows from another: each is reached in one of the proposers' moods.
TIGHT = Limits(order_notional=20_000, position=600_000, sector=1_260_000, net=1_200_000, gross=1_500_000)
FULL = frozenset(
    {"order notional", "sector", "gross", "net long", "net short", *(f"position {name}" for name in EVERYTHING)}
)
KILL, KILL_BOTH = Kill(("execution",)), Kill(("execution", "nats"))
TIDE_S = 0.1
REPEATED = 32  # of each proposer's last answers, after a kill: about twice what is new; at the end all


@dataclass(kw_only=True)
class Struck:
    """One kill, and what was judged until the next."""

    number: int
    fault: str
    rows: int = 0
    batches: int = 0
    repeated: int = 0
    unanswered: int = 0  # batches, at the kill
    recovery_ms: float | None = None
    log_seq: int = 0
    problems: list[str] = field(default_factory=list)


class Proposers:
    """All proposers on one system. The log is judged as it grows, and by `judge_the_whole` once more."""

    def __init__(self, mesh: Mesh, *, seed: int, proposers: int = PROPOSERS) -> None:
        self._mesh = mesh
        self._random = random.Random(seed)
        self._count = proposers
        self._driver = Client(
            name="driver",
            account="",
            near=False,
            links=Links(mesh),
            history=History(),
            random=random.Random(self._random.getrandbits(64)),
            instruments={},
            limits=TIGHT,
        )
        self._market = Market(self._driver, (ACCOUNT,))
        self._crowd: list[Proposer] = []
        self.tally = Tally()
        self.chain, self.books = Chain(), Books({})

    async def open(self) -> None:
        """The account, a price, the limits, and the proposers."""
        await self._market.open()
        await self._market.next_day()
        await self._market.allow(TIGHT)
        self.books = Books(self._market.facts())
        await self._judge_log()
        self._market.learn(self.books.accounts[ACCOUNT].marks_e9)
        self._crowd = [
            Proposer(
                name=f"proposer-{number}",
                account=ACCOUNT,
                links=Links(self._mesh),
                random=random.Random(self._random.getrandbits(64)),
                instruments=self._market.instruments,
                limits=TIGHT,
                tally=self.tally,
            )
            for number in range(self._count)
        ]

    async def close(self) -> None:
        """Ends the connections."""
        for one in (*self._crowd, self._driver):
            await one.links.close()

    async def round(self, number: int, rows: int) -> Struck:
        """So many rows are judged, with a kill in the middle; then all of it is judged by others."""
        fault = KILL_BOTH if self._random.random() < 0.25 else KILL
        found = Struck(number=number, fault=fault.name)
        before = self.tally.rows
        await self._load(rows, fault, found)
        await asyncio.to_thread(self._mesh.wait_serving)
        found.rows, found.batches = self.tally.rows - before, sum(len(one.told) for one in self._crowd)
        try:
            found.repeated = await self._again(REPEATED)
            await self._judge_log()
            await self._judge_reads()
        except BrokenError as problem:
            found.problems.append(f"kill {number}, {fault.name}: {problem}")
        found.log_seq = self.chain.seq
        return found

    async def judge_the_whole(self) -> int:
        """Everything once more; how many answers were asked again. Raises BrokenError, ChaosError.

        The log is judged from its first event; every limit was full; what nobody holds is there to be had; the views
        are what the journals say.
        """
        repeated = await self._again(REMEMBERED)
        linked, books = Chain(), Books(self._market.facts())
        async for _ in follow(self._driver.execution, linked, books):
            pass
        same = (linked.seq, linked.event_hash, linked.frame_hash) == (
            self.chain.seq,
            self.chain.event_hash,
            self.chain.frame_hash,
        )
        if not same or books.full != self.books.full:
            raise BrokenError(f"the log reads otherwise from its start: {linked.seq} events, then {self.chain.seq}")
        if missing := FULL - set(books.full):
            raise BrokenError(f"never full to the last lot: {', '.join(sorted(missing))} of {books.utilisation}")
        await self._have_a_whole_position()
        await asyncio.to_thread(self._mesh.verify)
        return repeated

    async def _have_a_whole_position(self) -> None:
        """Once all is given back, one agent gets a position up to its limit, to the lot: no exposure was lost."""
        await self._market.clear(ACCOUNT)
        await self._judge_log()
        chosen = self._market.instruments[EVERYTHING[0]]
        lot = chosen.ticks * chosen.tick_e9 * chosen.lot_e9 * chosen.multiplier_e9
        most, rows = TIGHT.position * SCALE // lot, 2 * TIGHT.position // TIGHT.order_notional
        batch = execution_pb2.ReservationBatch(
            basket_mode=execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS,
            instrument_ids=[chosen.instrument_id] * rows,
            sides=[BUY] * rows,
            quantity_e9=[TIGHT.order_notional * SCALE // lot * chosen.lot_e9] * rows,
            price_bound_e9=[chosen.ticks * chosen.tick_e9] * rows,
            time_to_live_ns=E9,
        )
        call: Any = self._driver.execution.ReserveExposure(None, timeout=GIVE_UP_S)  # type: ignore[arg-type]
        await call.write(Request(account_id=ACCOUNT, agent_id="late", batch_number=1, batch=batch))
        granted = sum((await call.read()).verdicts.granted_quantity_e9) // chosen.lot_e9
        if granted != most:
            raise BrokenError(f"with nothing held {granted} lots of {chosen.instrument_id} were granted, not {most}")
        await call.done_writing()
        async for _ in follow(self._driver.execution, self.chain, self.books):
            pass

    # --- load ---------------------------------------------------------------------------------------

    async def _load(self, rows: int, fault: Kill, found: Struck) -> None:
        """Until so many rows are judged and the system has answered again."""
        tally, over = self.tally, asyncio.Event()
        until, moment = tally.rows + rows, tally.rows + int(rows * self._random.uniform(0.1, 0.9))
        tally.struck = tally.answered = NEVER
        async with asyncio.TaskGroup() as group:
            for one in self._crowd:
                group.create_task(one.propose(over))
            group.create_task(self._tide(over))
            await self._until(lambda: tally.rows >= moment)
            await asyncio.sleep(self._random.uniform(0, 0.02))
            found.unanswered = sum(len(one.unanswered) for one in self._crowd)
            tally.struck = await fault.strike(self._mesh, self._random)
            await self._until(lambda: tally.rows >= until and tally.answered != NEVER)
            over.set()
        found.recovery_ms = 1e3 * (tally.answered - tally.struck)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached():
            self.tally.moved.clear()
            async with asyncio.timeout(GIVE_UP_S):
                await self.tally.moved.wait()

    async def _tide(self, over: asyncio.Event) -> None:
        """Market time goes on, by policies with the same limits: reservations expire, and no rate limit binds."""
        while not over.is_set():
            await self._market.allow(TIGHT)
            await asyncio.sleep(TIDE_S)

    async def _again(self, last: int) -> int:
        """Asks for the last answers of each proposer once more; how many."""
        return sum(await asyncio.gather(*(one.again(last) for one in self._crowd)))

    # --- judgement ----------------------------------------------------------------------------------

    async def _judge_log(self) -> None:
        """Every new event; each answer is what the log says, and each batch of the log was answered."""
        told = {(one.name, number): pair for one in self._crowd for number, pair in one.told.items()}
        async for event in follow(self._driver.execution, self.chain, self.books):
            if event.schema.endswith(".ReservationGranted"):
                granted = events_pb2.ReservationGranted.FromString(event.payload)
                pair = told.pop((granted.agent_id, granted.batch_number), None)
                if pair is None or not _agree(*pair, granted, event.seq):
                    raise BrokenError(
                        f"seq {event.seq}: batch {granted.batch_number} of {granted.agent_id} was answered otherwise"
                    )
        lost = [key for key, (request, _) in told.items() if request.HasField("batch")]
        if lost:
            raise BrokenError(f"{len(lost)} answered batches are not in the log: {lost[:3]}")
        if self.books.above:
            raise BrokenError(f"the account was above a limit after {self.books.above} events")
        for one in self._crowd:
            one.told.clear()

    async def _judge_reads(self) -> None:
        """The account and its reservations, as they are read, are what the log makes of them."""
        book, ledger = self.books.accounts[ACCOUNT], self._driver.execution
        read = execution_pb2.GetAccountRequest(account_id=ACCOUNT)
        account = (await self._driver.insist("look", ledger.GetAccount, read)).response
        compare_account(book, account.account, self.chain.seq)
        listed = execution_pb2.ListReservationsRequest(account_id=ACCOUNT, page_size=5_000)
        held = (await self._driver.insist("list", ledger.ListReservations, listed)).response.reservations
        shown = {one.reservation_id: (one.instrument_id, one.side == BUY, one.quantity_e9) for one in held}
        kept = {name: (one.instrument, one.buy, one.quantity_e9) for name, one in book.reserved.items()}
        if shown != kept:
            raise BrokenError(f"{len(shown)} reservations are listed, by the log {len(kept)} are held")


def _agree(request: Request, response: Response, granted: events_pb2.ReservationGranted, seq: int) -> bool:
    return (
        granted.batch == request.batch
        and granted.verdicts == response.verdicts
        and len(granted.released_ids) == response.released
        and response.applied_seq == seq
    )
