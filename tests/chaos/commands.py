"""What clients do. A command is a class with a name, a weight and `run`; `COMMANDS` is the list of all."""

from __future__ import annotations

from typing import Any, Protocol

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2

from .client import Client, Instrument

E9 = 10**9
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
MODES = (
    execution_pb2.BASKET_MODE_INDEPENDENT,
    execution_pb2.BASKET_MODE_ALL_OR_NOTHING,
    execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS,
)
CLOSED = frozenset(
    {
        order_pb2.ORDER_STATE_DENIED,
        order_pb2.ORDER_STATE_REJECTED,
        order_pb2.ORDER_STATE_CANCELED,
        order_pb2.ORDER_STATE_EXPIRED,
        order_pb2.ORDER_STATE_FILLED,
    }
)


class Command(Protocol):
    """Something that a client does once in a while."""

    name: str
    weight: int

    async def run(self, client: Client) -> None:
        """Does it once, through `client.insist`."""


class Submit:
    """A basket of one to four limit orders, good till cancelled, in one of the three modes."""

    name, weight = "submit", 5

    async def run(self, client: Client) -> None:
        """What was approved can be cancelled later."""
        specs = [self._order(client) for _ in range(client.random.choice((1, 1, 2, 4)))]
        request = execution_pb2.SubmitOrdersRequest(
            request_id=client.new_id(),
            account_id=client.account,
            orders=specs,
            basket_mode=client.random.choice(MODES),
        )
        operation = await client.insist(self.name, client.execution.SubmitOrders, request)
        for order in operation.response.orders:
            if order.state not in CLOSED:
                client.open[order.spec.client_order_id] = order.spec

    def _order(self, client: Client) -> order_pb2.OrderSpec:
        chosen, roll = client.instruments[client.random.choice(sorted(client.instruments))], client.random
        side = roll.choice((BUY, SELL))
        price = limit_price(client, chosen, side)
        # Some are above the notional limit; a few fill an instrument's limit.
        money = roll.uniform(0.05, 1.15) * client.limits.order_notional * E9
        lot_value = max(price * chosen.lot_e9 * chosen.multiplier_e9 // E9**2, 1)
        return order_pb2.OrderSpec(
            client_order_id=f"{client.name}-{client.new_id()}",
            instrument_id=chosen.instrument_id,
            side=side,
            order_type=trading_pb2.ORDER_TYPE_LIMIT,
            time_in_force=trading_pb2.TIME_IN_FORCE_GTC,
            quantity_e9=max(int(money) // lot_value, 1) * chosen.lot_e9,
            price_e9=price,
        )


def limit_price(client: Client, chosen: Instrument, side: int) -> int:
    """Far from the market, or about at it for a client that wants to trade."""
    away = client.random.uniform(0.0, 0.02) if client.near else client.random.uniform(0.25, 0.45)
    ticks = chosen.ticks * (1 - away if side == BUY else 1 + away)
    return max(int(ticks), 1) * chosen.tick_e9


class Cancel:
    """One of the client's own orders."""

    name, weight = "cancel", 4

    async def run(self, client: Client) -> None:
        """An order that has closed meanwhile is no error."""
        if not client.open:
            return
        identifier = client.random.choice(sorted(client.open))
        del client.open[identifier]
        request = execution_pb2.CancelOrderRequest(
            request_id=client.new_id(), account_id=client.account, client_order_id=identifier
        )
        await client.insist(self.name, client.execution.CancelOrder, request, expected=frozenset({"ORDER_CLOSED"}))


class Read:
    """The account."""

    name, weight = "read", 1

    async def run(self, client: Client) -> None:
        """A read has no request_id: it may simply be asked again."""
        request = execution_pb2.GetAccountRequest(account_id=client.account)
        await client.insist(self.name, client.execution.GetAccount, request)


class Reserve:
    """A batch of proposals over a stream of one's own, and some of the reservations given back."""

    name, weight = "reserve", 4

    async def run(self, client: Client) -> None:
        """The batch's number is its idempotency key."""
        roll, memory = client.random, client.memory
        memory["batch"] = memory.get("batch", 0) + 1
        held: list[int] = memory.setdefault("held", [])
        back = [one for one in held if roll.random() < 0.5]
        rows = [self._row(client) for _ in range(roll.choice((1, 2, 5)))]
        batch = execution_pb2.ReservationBatch(
            basket_mode=roll.choice(MODES),
            instrument_ids=[row[0] for row in rows],
            sides=[row[1] for row in rows],
            quantity_e9=[row[2] for row in rows],
            price_bound_e9=[row[3] for row in rows],
            time_to_live_ns=300 * 86_400 * E9,
        )
        request = execution_pb2.ReserveExposureRequest(
            account_id=client.account,
            agent_id=client.name,
            batch_number=memory["batch"],
            release_ids=back,
            batch=batch,
        )

        async def ask(sent: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as a stub is called
            stream = client.execution.ReserveExposure(_one(sent), timeout=timeout)
            async for response in stream:
                return response
            raise AssertionError("the stream ended without an answer")

        operation = await client.insist(self.name, ask, request)
        memory["held"] = [one for one in held if one not in back]
        memory["held"] += [one for one in operation.response.verdicts.reservation_ids if one]

    def _row(self, client: Client) -> tuple[str, int, int, int]:
        chosen, side = (
            client.instruments[client.random.choice(sorted(client.instruments))],
            client.random.choice((BUY, SELL)),
        )
        price = limit_price(client, chosen, side)
        lot_value = max(price * chosen.lot_e9 * chosen.multiplier_e9 // E9**2, 1)
        money = client.random.uniform(0.05, 1.15) * client.limits.order_notional * E9
        return chosen.instrument_id, side, max(int(money) // lot_value, 1) * chosen.lot_e9, price


async def _one(request: Any) -> Any:
    yield request


COMMANDS: tuple[Command, ...] = (Submit(), Cancel(), Read(), Reserve())
