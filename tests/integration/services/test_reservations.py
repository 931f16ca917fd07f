"""Exposure reserved over a stream, with the real services: what N agents hold together is within the limits."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.type.v1 import trading_pb2
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from mesh.supervisor import Supervisor
from python_services.kit.convert import money_e9
from python_services.kit.errors import from_rpc_error

from .conftest import ACCOUNT, E9, Trader, market_order, new_id, usd

DAY_NS = 86_400 * E9
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
EACH = execution_pb2.BASKET_MODE_INDEPENDENT
ALL = execution_pb2.BASKET_MODE_ALL_OR_NOTHING
FIT = execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS
Mode = execution_pb2.BasketMode.ValueType


def batch(
    *rows: tuple[str, int], mode: Mode = EACH, bound_e9: int = 0, days: float = 1
) -> execution_pb2.ReservationBatch:
    """Proposals as (instrument, shares); positive shares buy."""
    return execution_pb2.ReservationBatch(
        basket_mode=mode,
        instrument_ids=[name for name, _ in rows],
        sides=[BUY if shares > 0 else SELL for _, shares in rows],
        quantity_e9=[abs(shares) * E9 for _, shares in rows],
        price_bound_e9=[bound_e9] * len(rows),
        time_to_live_ns=int(days * DAY_NS),
    )


def request(
    number: int, what: execution_pb2.ReservationBatch | None, agent: str = "agent", release: Sequence[int] = ()
) -> execution_pb2.ReserveExposureRequest:
    return execution_pb2.ReserveExposureRequest(
        account_id=ACCOUNT, agent_id=agent, batch_number=number, release_ids=release, batch=what
    )


async def stream(
    execution: execution_pb2_grpc.ExecutionServiceAsyncStub, *requests: execution_pb2.ReserveExposureRequest
) -> list[execution_pb2.ReserveExposureResponse]:
    async def sent() -> AsyncIterator[execution_pb2.ReserveExposureRequest]:
        for one in requests:
            yield one

    return [response async for response in execution.ReserveExposure(sent())]


async def listed(trader: Trader, agent: str = "") -> execution_pb2.ListReservationsResponse:
    asked = execution_pb2.ListReservationsRequest(account_id=ACCOUNT, agent_id=agent, page_size=5_000)
    return await trader.execution.ListReservations(asked)


async def reserved(trader: Trader) -> int:
    return money_e9((await trader.account()).account.reserved)


async def restart(trader: Trader) -> None:
    await trader.system.stop("execution")
    await trader.system.start("execution")


async def test_a_basket_is_granted_held_and_given_back(trader: Trader) -> None:
    [granted] = await stream(trader.execution, request(1, batch(("IBM", 100), ("MSFT", 200))))
    verdicts = granted.verdicts
    assert list(verdicts.granted_quantity_e9) == [100 * E9, 200 * E9]
    assert list(verdicts.reasons) == [0, 0]
    assert len(set(verdicts.reservation_ids)) == 2
    held = await listed(trader)
    assert {(r.reservation_id, r.agent_id, r.instrument_id, r.quantity_e9) for r in held.reservations} == {
        (verdicts.reservation_ids[0], "agent", "IBM", 100 * E9),
        (verdicts.reservation_ids[1], "agent", "MSFT", 200 * E9),
    }
    assert held.last_batch_number == 0  # no agent was named
    assert (await listed(trader, "agent")).last_batch_number == 1
    assert await reserved(trader) > 0
    [back] = await stream(trader.execution, request(2, None, release=verdicts.reservation_ids))
    assert back.released == 2
    assert not back.HasField("verdicts")
    assert await reserved(trader) == 0
    assert not (await listed(trader)).reservations


async def test_many_agents_at_once_never_hold_more_than_the_limit(trader: Trader) -> None:
    """Each agent alone would fit; together they ask for ten times the limit, and go on asking."""
    await trader.allow(gross_exposure_limit=usd(100_000))
    price = {"IBM": 110 * E9, "MSFT": 30 * E9, "AAPL": 150 * E9, "GOOG": 450 * E9}  # more than they were worth

    async def agent(number: int) -> list[execution_pb2.ReservationVerdicts]:
        chosen = random.Random(number)
        answers = []
        held: list[int] = []
        for turn in range(1, 13):
            rows = [(chosen.choice(list(price)), chosen.randint(20, 120)) for _ in range(5)]
            mode = chosen.choice([EACH, ALL, FIT])
            back = [one for one in held if chosen.random() < 0.3]
            sent = request(turn, batch(*rows, mode=mode), f"agent-{number}", back)
            [answer] = await stream(trader.execution, sent)
            held = [one for one in held if one not in back]
            held += [one for one in answer.verdicts.reservation_ids if one]
            answers.append(answer.verdicts)
        return answers

    answers = [one for many in await asyncio.gather(*(agent(n) for n in range(10))) for one in many]
    assert any(all(one.reservation_ids) for one in answers)
    denied = {reason for one in answers for reason in one.reasons if reason}
    assert denied == {order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT}
    rest = (await listed(trader)).reservations
    value = sum(r.quantity_e9 // E9 * {"IBM": 104, "MSFT": 24, "AAPL": 142, "GOOG": 418}[r.instrument_id] for r in rest)
    assert 90_000 < value <= 101_000  # full, and not more (closes of 2009-07-01, rounded)
    for one in answers:
        granted = [bool(quantity) for quantity in one.granted_quantity_e9]
        assert granted == [bool(identifier) for identifier in one.reservation_ids]
    before = await trader.account()
    await restart(trader)
    assert (await listed(trader)).reservations == rest
    assert (await trader.account()).account == before.account
    [full] = await stream(trader.execution, request(1, batch(("GOOG", 40), mode=EACH), "late"))
    assert full.verdicts.reasons[0] == order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT


async def test_all_or_none_and_as_much_as_fits(trader: Trader) -> None:
    await trader.allow(gross_exposure_limit=usd(15_000))
    rows = [("IBM", 100), ("IBM", 100)]
    none, fits = await stream(trader.execution, request(1, batch(*rows, mode=ALL)), request(2, batch(*rows, mode=FIT)))
    assert not any(none.verdicts.reservation_ids)
    assert none.verdicts.reason_masks[1] >> order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT & 1
    first, second = fits.verdicts.granted_quantity_e9
    assert (first, 0 < second < 100 * E9) == (100 * E9, True)


@pytest.mark.parametrize("after_restart", [False, True])
async def test_a_batch_sent_again_gets_its_first_answer(trader: Trader, after_restart: bool) -> None:
    await trader.allow(gross_exposure_limit=usd(15_000))
    sent = [request(1, batch(("IBM", 100))), request(2, batch(("IBM", 100)))]
    first = await stream(trader.execution, *sent)
    assert [bool(one.verdicts.reservation_ids[0]) for one in first] == [True, False]
    [_] = await stream(trader.execution, request(3, None, release=first[0].verdicts.reservation_ids))
    if after_restart:
        await restart(trader)
    before = (await trader.account()).applied_seq
    assert await stream(trader.execution, *sent) == first
    assert (await trader.account()).applied_seq == before
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(trader.execution, request(2, batch(("IBM", 99))))
    assert from_rpc_error(caught.value).reason == "BATCH_NUMBER_REUSED"
    await stream(trader.execution, *(request(n, batch(("IBM", 1))) for n in range(10, 300)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(trader.execution, sent[0])
    assert from_rpc_error(caught.value).reason == "BATCH_NUMBER_TOO_LOW"


@pytest.mark.parametrize("after_restart", [False, True])
async def test_a_batch_that_only_gave_back_is_answered_as_the_first_time(trader: Trader, after_restart: bool) -> None:
    [granted] = await stream(trader.execution, request(1, batch(("IBM", 100), ("MSFT", 50))))
    ids = granted.verdicts.reservation_ids
    sent = [request(2, None, release=ids[:1]), request(3, None, release=[ids[0], 12345])]
    first = await stream(trader.execution, *sent)
    assert [one.released for one in first] == [1, 0]
    if after_restart:
        await restart(trader)
    before = (await trader.account()).applied_seq
    assert await stream(trader.execution, *sent) == first
    assert (await trader.account()).applied_seq == before
    assert (await listed(trader, "agent")).last_batch_number == 3
    for other in (request(2, None, release=ids[1:]), request(2, batch(("IBM", 1)), release=ids[:1])):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream(trader.execution, other)
        assert from_rpc_error(caught.value).reason == "BATCH_NUMBER_REUSED"
    assert [one.reservation_id for one in (await listed(trader)).reservations] == list(ids[1:])


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"quantity_e9": [E9, E9 // 2]}, "batch.quantity_e9[1]"),
        ({"price_bound_e9": [0, 100_005_000_000]}, "batch.price_bound_e9[1]"),
        ({"quantity_e9": [E9]}, "batch.quantity_e9"),
        ({"quantity_e9": [E9, 0]}, "batch.quantity_e9[1]"),
        ({"sides": [BUY, 0]}, "batch.sides[1]"),
        ({"sides": [BUY, 257]}, "batch.sides[1]"),
        ({"time_to_live_ns": 0}, "batch.time_to_live_ns"),
        ({"basket_mode": 0}, "batch.basket_mode"),
    ],
)
async def test_a_malformed_batch_is_refused_by_field_and_changes_nothing(
    trader: Trader, wrong: dict[str, object], field: str
) -> None:
    [held] = await stream(trader.execution, request(1, batch(("IBM", 1))))
    bad = batch(("IBM", 1), ("MSFT", 1))
    for name, value in wrong.items():
        bad.ClearField(name)  # type: ignore[arg-type]
        bad.MergeFrom(execution_pb2.ReservationBatch(**{name: value}))  # type: ignore[arg-type]
    before = await trader.account()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(trader.execution, request(2, bad, release=held.verdicts.reservation_ids))
    error = from_rpc_error(caught.value)
    assert (error.code, error.violations[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert await trader.account() == before


async def test_unknown_instruments_are_denied_by_name(trader: Trader) -> None:
    [answer] = await stream(trader.execution, request(1, batch(("TSLA", 1), ("IBM", 1))))
    assert list(answer.verdicts.reasons) == [order_pb2.DENIAL_REASON_INSTRUMENT_UNKNOWN, 0]


async def test_an_agent_cannot_give_back_what_another_holds(trader: Trader) -> None:
    [mine] = await stream(trader.execution, request(1, batch(("IBM", 1)), "one"))
    [other] = await stream(trader.execution, request(1, None, "two", mine.verdicts.reservation_ids))
    assert other.released == 0
    assert len((await listed(trader)).reservations) == 1
    done = await trader.execution.ReleaseReservations(
        execution_pb2.ReleaseReservationsRequest(
            request_id=new_id(), account_id=ACCOUNT, reservation_ids=[*mine.verdicts.reservation_ids, 12345]
        )
    )
    assert list(done.released_ids) == list(mine.verdicts.reservation_ids)


@pytest.mark.parametrize("after_restart", [False, True])
async def test_reservations_expire_by_market_time(trader: Trader, after_restart: bool) -> None:
    short, long = await stream(
        trader.execution, request(1, batch(("IBM", 10), days=0.5)), request(2, batch(("IBM", 20), days=40))
    )
    assert short.verdicts.expire_time_ns == trader.days[trader.today] + DAY_NS // 2
    if after_restart:
        await restart(trader)
    await trader.next_day()
    assert [r.reservation_id for r in (await listed(trader)).reservations] == list(long.verdicts.reservation_ids)


async def test_an_order_consumes_a_reservation(trader: Trader) -> None:
    """Where nothing else fits, the order passes for the exposure that is held for it already."""
    await trader.allow(gross_exposure_limit=usd(15_000))
    [held] = await stream(trader.execution, request(1, batch(("IBM", 140))))
    [identifier] = held.verdicts.reservation_ids
    [denied] = await trader.submit(market_order("without", "IBM", 100))
    assert denied.denial_reasons[0] == order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT
    [preview] = await trader.submit(market_order("with", "IBM", 100, reservation_id=identifier), validate_only=True)
    assert preview.state == order_pb2.ORDER_STATE_INITIALIZED
    [order] = await trader.submit(market_order("with", "IBM", 100, reservation_id=identifier))
    assert order.state == order_pb2.ORDER_STATE_ACCEPTED
    assert not (await listed(trader)).reservations
    # What the order did not need is free again.
    [rest] = await stream(trader.execution, request(2, batch(("IBM", 40), days=30)))
    assert all(rest.verdicts.reservation_ids)
    await restart(trader)
    account = await trader.next_day()
    assert [(p.instrument_id, p.quantity_e9) for p in account.positions] == [("IBM", 100 * E9)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.submit(market_order("again", "IBM", 1, reservation_id=identifier))
    assert from_rpc_error(caught.value).reason == "RESERVATION_NOT_HELD"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.submit(market_order("other", "MSFT", 1, reservation_id=rest.verdicts.reservation_ids[0]))
    assert from_rpc_error(caught.value).violations[0][0] == "orders[0].reservation_id"


async def test_a_basket_of_orders_with_reservations_is_all_or_nothing(trader: Trader) -> None:
    await trader.allow(gross_exposure_limit=usd(15_000))
    [held] = await stream(trader.execution, request(1, batch(("IBM", 100))))
    [identifier] = held.verdicts.reservation_ids
    before = await reserved(trader)
    basket = [market_order("a", "IBM", 100, reservation_id=identifier), market_order("b", "IBM", 100)]
    orders = await trader.submit(*basket, mode=ALL)
    assert [order.state for order in orders] == [order_pb2.ORDER_STATE_DENIED] * 2
    assert await reserved(trader) == before
    assert [r.reservation_id for r in (await listed(trader)).reservations] == [identifier]


async def test_an_unresolved_order_holds_its_exposure_against_proposals(trader: Trader) -> None:
    await trader.allow(gross_exposure_limit=usd(15_000))
    await trader.system.stop("venue")
    [order] = await trader.submit(market_order("lost", "IBM", 100))
    assert order.state == order_pb2.ORDER_STATE_UNRESOLVED
    [answer] = await stream(trader.execution, request(1, batch(("IBM", 100))))
    assert answer.verdicts.reasons[0] == order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT


async def test_a_rate_limit_that_the_gate_cannot_remember_is_refused(trader: Trader) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.allow(orders_per_second=1_000_000)
    error = from_rpc_error(caught.value)
    assert (error.code, error.violations[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "policy.orders_per_second")
    assert "remembered_orders" in error.message


async def test_a_caller_without_identity_is_refused(trader: Trader) -> None:
    channel = trader.system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution", caller="")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream(channel, request(1, batch(("IBM", 1))))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


class SocketTrader(Trader):
    """The trader of a system of processes."""

    def __init__(self, system: SocketSystem) -> None:
        super().__init__(system)  # type: ignore[arg-type]


async def test_kill_9_in_the_middle_of_the_streams_loses_no_answer_and_grants_nothing_twice() -> None:
    """Agents send on and on; execution dies several times. Who gets no answer sends the batch again."""
    mesh = topology.load().with_config("execution", {"remembered_orders": 100_000})
    needed = ("market_data", "venue", "execution")
    mesh = replace(mesh, services=tuple(service for service in mesh.services if service.name in needed))
    mesh = mesh.without_sidecars()  # whom the clients call is not all here
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        run = RunDir.create(Path(folder) / "run")
        supervisor = Supervisor(run, mesh)
        await supervisor.start()
        system = SocketSystem(run)
        try:
            trader = SocketTrader(system)
            await trader.open()
            await trader.allow(gross_exposure_limit=usd(300_000), orders_per_second=100_000)
            await _agents_and_kills(trader, supervisor)
        finally:
            await system.close()
            await supervisor.stop()
            run.release()


async def _agents_and_kills(trader: Trader, supervisor: Supervisor) -> None:
    held: dict[int, tuple[str, int]] = {}
    done, repeats = False, 0

    async def agent(name: str) -> None:
        nonlocal repeats
        chosen, number, mine = random.Random(name), 0, []
        while not done:
            number += 1
            rows = [(chosen.choice(["IBM", "MSFT"]), chosen.randint(1, 60)) for _ in range(8)]
            back = mine if chosen.random() < 0.9 else []
            sent = request(number, batch(*rows, mode=FIT, days=30), name, back)
            while True:
                try:
                    [answer] = await stream(trader.execution, sent)
                    break
                except grpc.aio.AioRpcError as error:
                    # gRPC says INTERNAL when the connection breaks while it sends.
                    assert error.code() is grpc.StatusCode.UNAVAILABLE or "from Core" in str(error.details())  # noqa: PT017
                    repeats += 1
                    await asyncio.sleep(0.02)
            if back:
                for one in mine:
                    del held[one]
                mine = []
            verdicts = answer.verdicts
            for (instrument, _), one, quantity in zip(
                rows, verdicts.reservation_ids, verdicts.granted_quantity_e9, strict=True
            ):
                if one:
                    assert one not in held
                    held[one] = (instrument, quantity)
                    mine.append(one)

    agents = [asyncio.create_task(agent(f"agent-{n}")) for n in range(8)]
    for _ in range(3):
        await asyncio.sleep(0.7)
        pid = supervisor.statuses["execution"].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(30):
            while supervisor.statuses["execution"].pid in (None, pid):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    await asyncio.sleep(0.7)
    done = True
    async with asyncio.timeout(60):
        await asyncio.gather(*agents)
    assert repeats >= 3
    found = {r.reservation_id: (r.instrument_id, r.quantity_e9) for r in (await listed(trader)).reservations}
    assert found == held
    value = sum(quantity // E9 * {"IBM": 104, "MSFT": 24}[name] for name, quantity in found.values())
    assert 100_000 < value <= 300_000
    assert not (await trader.account()).account.alarms
