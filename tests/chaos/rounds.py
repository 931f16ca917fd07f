"""Rounds: load from many clients, one fault in the middle, and after each everything is judged."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc

from .client import Client, Limits
from .commands import COMMANDS
from .faults import Fault
from .history import NEVER, History, Operation
from .ledger_check import E9, Books, BrokenError, Chain, compare_account, follow
from .linearizability import Interval, check, respects_time
from .market import Market
from .model import Ledger, ledger_steps
from .proposer import REMEMBERED
from .system import ChaosError, Links, Mesh
from .venue_check import VenueBook

RESTING = ("rest-a", "rest-b", "rest-c")  # their orders never fill: a sequential model says what each answer must be
TRADING = "trade"  # its orders fill while the market moves
ACCOUNTS = (*RESTING, TRADING)
BINDING = ("order notional", "position", "gross")  # limits that a round draws; the others are loose
REPEATS_AT_ONCE = 16
RECOVERY_S = 60.0
ORDERS_PER_POLICY = 100


@dataclass(kw_only=True)
class Round:
    """What one round showed."""

    number: int
    fault: str
    operations: int = 0
    acknowledged: int = 0
    repeated: int = 0
    reads: int = 0
    histories: int = 0
    steps: int = 0
    recovery_ms: float | None = None
    problems: list[str] = field(default_factory=list)


class Rounds:
    """All rounds on one system. The log and the venue's reports are judged from their first entry on, once."""

    def __init__(self, mesh: Mesh, *, seed: int, clients: int = 10, seconds: float = 1.0) -> None:
        self._mesh = mesh
        self._random = random.Random(seed)
        self._clients = clients
        self._seconds = seconds
        self._links = Links(mesh)
        self._market_history = History()
        self._kept: list[Client] = []
        self._driver = self._client("driver", "", self._market_history, Limits(order_notional=0, position=0, gross=0))
        self._market = Market(self._driver, ACCOUNTS)
        self.chain, self.books, self.venue = Chain(), Books({}), VenueBook()
        self._granted: dict[str, dict[str, int]] = {account: {} for account in ACCOUNTS}
        self._rejected: dict[str, set[str]] = {account: set() for account in ACCOUNTS}

    async def open(self) -> None:
        """Accounts, marks, policies."""
        await self._market.open()
        self._market.learn({})
        self.books = Books(self._market.facts())

    async def close(self) -> None:
        """Ends the connections."""
        for client in self._kept:
            await client.links.close()
        await self._links.close()

    async def round(self, number: int, fault: Fault) -> Round:
        """One round. What was found wrong is in `problems`."""
        result = Round(number=number, fault=fault.name)
        roll = self._random
        notional = roll.randrange(5_000, 40_000)
        limits = Limits(
            order_notional=notional,
            position=int(notional * roll.uniform(1, 4)),
            gross=int(notional * roll.uniform(3, 9)),
        )
        history = self._market_history = History()
        self._driver.history = history
        await self._market.next_day()
        await self._market.allow(limits)
        await self._judge_log(History())
        self._market.learn(self.books.accounts[RESTING[0]].marks_e9)

        clients = [
            self._client(f"c{number}-{i}", ACCOUNTS[i % len(ACCOUNTS)], history, limits) for i in range(self._clients)
        ]
        moment = roll.uniform(0.15, 0.7) * self._seconds
        struck = await self._load(clients, limits, fault, moment, history)
        result.recovery_ms = (history.first_answer_after(struck) - struck) * 1e3

        await asyncio.to_thread(self._mesh.wait_serving)
        result.operations = len(history.operations)
        for judge in (self._judge_repeats, self._judge_linearizability, self._judge_end):
            try:
                await judge(history, result)
            except BrokenError as problem:
                result.problems.append(f"round {number}, {fault.name}: {problem}")
        for client in clients:
            await client.links.close()
        return result

    async def until(self, over: Callable[[], bool], limit_s: float = 60) -> int:
        """Load until it is `over`; how much was acknowledged. `recheck` asks for all of it again. Raises ChaosError."""
        limits = Limits(order_notional=20_000, position=100_000, gross=300_000)
        await self._market.next_day()
        await self._market.allow(limits)
        await self._judge_log(History())
        self._market.learn(self.books.accounts[RESTING[0]].marks_e9)
        history = self._market_history = History()
        never = asyncio.Event()
        clients = [self._client(f"d{i}", ACCOUNTS[i % len(ACCOUNTS)], history, limits) for i in range(self._clients)]
        tasks = [asyncio.create_task(_work(client, never)) for client in clients]
        give_up = time.monotonic() + limit_s
        while not over():
            if time.monotonic() > give_up:
                raise ChaosError(f"not over after {limit_s:g} s")
            await asyncio.sleep(0.1)
            if sum(1 for _ in history.acknowledged()) > ORDERS_PER_POLICY * (1 + sum(1 for _ in history.of("policy"))):
                tasks.append(asyncio.create_task(self._market.allow(limits)))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._kept = clients  # their connections are needed to ask again
        return sum(1 for _ in history.acknowledged())

    async def recheck(self) -> int:
        """After recovery: every answer given stands, the log is whole, and the view agrees. Raises BrokenError."""
        result = Round(number=0, fault="")
        await self._judge_repeats(self._market_history, result)
        await self._judge_log(History())
        self._judge_witness(self._market_history)
        await asyncio.to_thread(self._mesh.verify)
        return result.repeated

    # --- load ---------------------------------------------------------------------------------------

    def _client(self, name: str, account: str, history: History, limits: Limits) -> Client:
        return Client(
            name=name,
            account=account,
            near=account == TRADING,
            links=self._links if name == "driver" else Links(self._mesh),
            history=history,
            random=random.Random(self._random.getrandbits(64)),
            instruments={} if name == "driver" else self._market.instruments,
            limits=limits,
        )

    async def _load(
        self, clients: list[Client], limits: Limits, fault: Fault, moment: float, history: History
    ) -> float:
        """Returns when the time is over and the system has answered again; the moment of the fault."""
        until, over = time.monotonic() + self._seconds, asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(_work(client, over))
            group.create_task(self._tide(over, limits))
            await asyncio.sleep(moment)
            struck = await fault.strike(self._mesh, self._random)
            while time.monotonic() < until or history.first_answer_after(struck) == NEVER:
                await asyncio.sleep(0.02)
                if time.monotonic() > until + RECOVERY_S:
                    raise ChaosError(f"nothing was acknowledged for {RECOVERY_S:g} s after {fault.name}")
            over.set()
        return struck

    async def _tide(self, over: asyncio.Event, limits: Limits) -> None:
        """Market time goes on: the ledger's clock by policies, and one bar in which orders fill."""
        turns = 0
        while not over.is_set():
            await asyncio.sleep(0.2)
            turns += 1
            if turns == 2:
                await self._market.next_day((TRADING,))
            await self._market.allow(limits)

    # --- judgement ----------------------------------------------------------------------------------

    async def _judge_repeats(self, history: History, result: Round) -> None:
        """Every first answer, asked for again, is the same to the last bit."""
        gate = asyncio.Semaphore(REPEATS_AT_ONCE)
        acknowledged = list(history.acknowledged())
        asked = _remembered(acknowledged)
        again = self._client("again", "", History(), Limits(order_notional=0, position=0, gross=0))

        async def repeat(one: Any) -> str:
            async with gate:
                answer = (await again.insist(one.command, one.method, one.request)).response
            same = answer.SerializeToString(deterministic=True) == one.response.SerializeToString(deterministic=True)
            return "" if same else f"{one.command} {getattr(one.request, 'request_id', '')} is answered otherwise"

        changed = [text for text in await asyncio.gather(*(repeat(one) for one in asked)) if text]
        await again.links.close()
        result.acknowledged, result.repeated = len(acknowledged), len(asked)
        if changed:
            raise BrokenError(f"{len(changed)} acknowledged answers changed: {changed[:3]}")

    async def _judge_linearizability(self, history: History, result: Round) -> None:
        """Each resting account's history has an order that the sequential ledger allows."""
        for account in RESTING:
            steps = ledger_steps(
                history.of("submit", "cancel", "read", "reserve", account=account), self._market.instruments
            )
            verdict = check(Ledger(self._market.instruments, _limits_of(history)), steps)
            result.histories += 1
            result.steps += len(steps)
            if verdict.linearizable is not True:
                what = "was given up" if verdict.linearizable is None else "is not linearizable"
                done = f"{len(verdict.longest)} of {len(steps)} steps"
                raise BrokenError(f"the history of {account} {what}: {done}, then {verdict.stuck}")

    async def _judge_end(self, history: History, result: Round) -> None:
        """The log, the witness, the venue, the view; then the resting accounts are empty again."""
        for account in RESTING:
            await _until(lambda account=account: self._is_clear(account), f"orders of {account} are still open")
        await self._judge_log(history)
        result.reads = sum(1 for _ in history.of("read", "look"))
        self._judge_witness(history)
        await _until(self._venue_is_told, "venue and ledger know different trades")
        for account in ACCOUNTS:
            self.venue.compare(account, self.books.accounts[account], self._rejected[account], self._granted[account])
        await asyncio.to_thread(self._mesh.verify)

    async def _is_clear(self, account: str) -> bool:
        return await self._market.clear(account) == 0

    async def _judge_log(self, history: History) -> None:
        """Every new event: the chain, the books, and each account that was read as of this event."""
        read: dict[int, list[execution_pb2.GetAccountResponse]] = {}
        for one in history.of("read", "look"):
            read.setdefault(one.response.applied_seq, []).append(one.response)
        self._compare_reads(read.pop(self.chain.seq, []), self.chain.event_hash)
        async for event in follow(self._driver.execution, self.chain, self.books):
            self._note(event)
            self._compare_reads(read.pop(event.seq, []), event.hash)
        if read:
            raise BrokenError(f"accounts were read as of {sorted(read)}, the log ends at {self.chain.seq}")

    def _compare_reads(self, read: list[execution_pb2.GetAccountResponse], event_hash: bytes) -> None:
        for response in read:
            compare_account(self.books.accounts[response.account.account_id], response.account, self.chain.seq)
            if response.event_hash != event_hash:
                raise BrokenError(f"seq {response.applied_seq} was read with another hash than the log's")

    def _note(self, event: event_pb2.EventEnvelope) -> None:
        if event.schema.endswith(".OrderInitialized"):
            opened = events_pb2.OrderInitialized.FromString(event.payload)
            if opened.approved_quantity_e9:
                self._granted[opened.account_id][opened.spec.client_order_id] = opened.approved_quantity_e9
        elif event.schema.endswith(".OrderStateChanged"):
            changed = events_pb2.OrderStateChanged.FromString(event.payload)
            if changed.to_state == order_pb2.ORDER_STATE_REJECTED:
                self._rejected[changed.account_id].add(changed.client_order_id)

    def _judge_witness(self, history: History) -> None:
        """Whatever was acknowledged is in the log, and the log's order respects real time."""
        ordered = []
        for one in history.of("submit", "cancel", "policy"):
            seqs = self.books.causes.get(one.request.request_id)
            if one.response is not None and seqs is None:
                raise BrokenError(f"{one.command} {one.request.request_id} was acknowledged and is not in the log")
            if seqs is not None:
                ordered.append((seqs[0], one))
            if seqs is not None and one.response is not None and one.response.applied_seq < seqs[1]:
                raise BrokenError(f"{one.command} was told seq {one.response.applied_seq}, its events end at {seqs[1]}")
        ordered.sort(key=lambda pair: pair[0])
        turned = respects_time(Interval(one.called, one.answered, (seq, one.command)) for seq, one in ordered)
        if turned is not None:
            raise BrokenError(
                f"the log has {turned[0]} before {turned[1]}, which was answered before the other was called"
            )

    async def _venue_is_told(self) -> bool:
        """Takes the venue's reports; True when every order has left the ledger's hands."""
        stub = self._links.stub(venue_pb2_grpc.VenueServiceStub, "venue")
        stream: Any = stub.StreamReports(venue_pb2.StreamReportsRequest(from_seq=self.venue.seq + 1), timeout=10)
        async for response in stream:
            self.venue.take(response.reports)
            if self.venue.seq >= response.last_seq:
                break
        stream.cancel()
        await self._judge_log(History())
        return all(self.venue.trades.get(account, set()) == self.books.accounts[account].trades for account in ACCOUNTS)


def _remembered(acknowledged: list[Operation]) -> list[Operation]:
    """All but the batches of an agent that are older than the ledger promises to answer again."""
    newest: Counter[str] = Counter()
    for one in acknowledged:
        if one.command == "reserve":
            newest[one.request.agent_id] = max(newest[one.request.agent_id], one.request.batch_number)
    return [
        one
        for one in acknowledged
        if one.command != "reserve" or one.request.batch_number > newest[one.request.agent_id] - REMEMBERED
    ]


async def _work(client: Client, over: asyncio.Event) -> None:
    weights = [command.weight for command in COMMANDS]
    while not over.is_set():
        await client.random.choices(COMMANDS, weights)[0].run(client)


async def _until(reached: Callable[[], Awaitable[bool]], otherwise: str, limit_s: float = RECOVERY_S) -> None:
    give_up = time.monotonic() + limit_s
    while not await reached():
        if time.monotonic() > give_up:
            raise BrokenError(f"after {limit_s:g} s {otherwise}")
        await asyncio.sleep(0.1)


def _limits_of(history: History) -> Limits:
    policy = next(history.of("policy")).request.policy
    return Limits(
        order_notional=policy.order_notional_limit.units,
        position=policy.position_limit.units,
        gross=policy.gross_exposure_limit.units,
    )


def percentile(values: list[float], share: float) -> float | None:
    """Nearest rank; None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


__all__ = ["ACCOUNTS", "BINDING", "E9", "Round", "Rounds", "percentile"]
