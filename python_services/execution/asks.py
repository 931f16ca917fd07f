"""From contract messages to the gate's language: increments checked, worst cases taken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import convert
from python_services.kit.currency import Pairs
from python_services.kit.errors import invalid

from . import modes
from .corporate_actions import Grid
from .gatekeeper import UNKNOWN, Ask, Listing, Rules, worst_price


class _Index(dict[str, int]):
    """Dense index by instrument; UNKNOWN for any other name."""

    def __missing__(self, _name: str) -> int:
        return UNKNOWN


class Catalogue:
    """The instruments, and conversions that need their increments."""

    def __init__(self, instruments: Mapping[str, marketdata_pb2.Instrument]) -> None:
        self._instruments = dict(instruments)
        self._names = list(instruments)
        self._index = _Index((name, index) for index, name in enumerate(instruments))
        # A last row for instruments that are not known.
        self._ticks = np.array([i.price_increment_e9 for i in instruments.values()] + [1], np.int64)
        self._lots = np.array([i.size_increment_e9 for i in instruments.values()] + [1], np.int64)
        self.pairs = Pairs(instruments)
        # What may have to be converted: currencies of instruments, and those that can be held.
        self.currencies = sorted(
            {i.currency_code for i in instruments.values()}
            | {i.base_currency_code for i in instruments.values() if i.base_currency_code}
        )
        self.multipliers = {name: instrument.multiplier_e9 for name, instrument in instruments.items()}

    @property
    def listings(self) -> list[Listing]:
        """What a gate is set up with."""
        return [
            Listing(
                instrument_id=name,
                tick_e9=i.price_increment_e9,
                lot_e9=i.size_increment_e9,
                tick_value=convert.notional_e9(i.price_increment_e9, i.size_increment_e9, i.multiplier_e9),
                sector=i.sector,
                currency=i.currency_code,
            )
            for name, i in self._instruments.items()
        ]

    def __contains__(self, instrument_id: str) -> bool:
        return instrument_id in self._instruments

    def ticks(self, instrument_id: str, price_e9: int, field: str) -> int:
        """A price in ticks. Raises ServiceError when it is off the increment."""
        return convert.to_steps(price_e9, self._instruments[instrument_id].price_increment_e9, field)

    def reference_ticks(self, index: NDArray[np.int64], marks_e9: Sequence[int]) -> NDArray[np.int64]:
        """Marks of indexes in ticks, for the gate's reference prices: off-tick prints rounded half up.

        The data's own checks have reported such prints. Without doubling a mark, which might leave int64.
        """
        increments, marks = self._ticks[index], _column(marks_e9)
        steps: NDArray[np.int64] = marks // increments
        steps += 2 * (marks - steps * increments) >= increments
        return steps

    def lots(self, instrument_id: str, quantity_e9: int, field: str) -> int:
        """A quantity in lots. Raises ServiceError when it is off the increment."""
        return convert.to_steps(quantity_e9, self._instruments[instrument_id].size_increment_e9, field)

    def quantity_e9(self, instrument_id: str, lots: int) -> int:
        """Lots as a quantity."""
        return convert.from_steps(lots, self._instruments[instrument_id].size_increment_e9, "quantity_e9")

    def currency(self, instrument_id: str) -> str:
        """The currency that an instrument is traded in."""
        return self.pairs.currency_of[instrument_id]

    def grid(self, instrument_id: str) -> Grid:
        """An instrument's increments and multiplier."""
        i = self._instruments[instrument_id]
        return Grid(tick_e9=i.price_increment_e9, lot_e9=i.size_increment_e9, multiplier_e9=i.multiplier_e9)

    def price_e9(self, instrument_id: str, ticks: int) -> int:
        """Ticks as a price."""
        return convert.from_steps(ticks, self._instruments[instrument_id].price_increment_e9, "price_e9")

    def index(self, instrument_ids: Iterable[str]) -> NDArray[np.int64]:
        """Dense indexes, in the order of `listings`; UNKNOWN for instruments that are not known."""
        return np.array(list(map(self._index.__getitem__, instrument_ids)), np.int64)

    def name(self, index: int) -> str:
        """The instrument with a dense index."""
        return self._names[index]

    def proposals(self, batch: execution_pb2.ReservationBatch, quantity_e9: Sequence[int]) -> NDArray[np.void]:
        """A batch as GATE_ORDER rows, for `quantity_e9` of each proposal.

        A proposal is nowhere in the market, so it is asked for as an order that cannot rest there.
        Raises ServiceError for columns of unequal length and for values off their increment.
        """
        index = self.index(batch.instrument_ids)
        for field in ("sides", "quantity_e9", "price_bound_e9"):
            if len(getattr(batch, field)) != len(index):
                problem = f"has {len(getattr(batch, field))} rows, and instrument_ids {len(index)}"
                raise invalid(f"batch.{field}", problem, "send columns of the same length")
        rows = np.zeros(len(index), modes.GATE_ORDER)
        side = _column(batch.sides)
        if ((side < 1) | (side > 2)).any():
            row = int(np.argmax((side < 1) | (side > 2)))
            raise invalid(f"batch.sides[{row}]", "is neither SIDE_BUY nor SIDE_SELL", "state one of them")
        rows["instrument"], rows["side"] = index, side
        rows["lots"] = _steps(_column(quantity_e9), self._lots[index], "batch.quantity_e9")
        price = rows["price"] = _steps(_column(batch.price_bound_e9), self._ticks[index], "batch.price_bound_e9")
        rows["type"] = np.where(price > 0, modes.LIMIT, modes.MARKET)
        rows["time_in_force"] = modes.IOC
        return rows

    def granted_e9(self, rows: NDArray[np.void], lots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Approved lots of `proposals` as quantities."""
        granted: NDArray[np.int64] = lots * self._lots[rows["instrument"]]
        return granted

    def ask(self, spec: order_pb2.OrderSpec, quantity_e9: int, where: str = "order") -> Ask:
        """What the gate is asked for `quantity_e9` of an order."""
        name = spec.instrument_id
        if name not in self:
            # The gate denies it by name; any quantity will do.
            return Ask(
                client_order_id=spec.client_order_id,
                instrument_id=name,
                side=spec.side,
                order_type=spec.order_type,
                time_in_force=spec.time_in_force,
                lots=1,
                price=1,
            )
        for field in ("trailing_offset_e9", "limit_offset_e9"):
            self.ticks(name, getattr(spec, field), f"{where}.{field}")
        self.lots(name, spec.display_quantity_e9, f"{where}.display_quantity_e9")
        return Ask(
            client_order_id=spec.client_order_id,
            instrument_id=name,
            side=spec.side,
            order_type=spec.order_type,
            time_in_force=spec.time_in_force,
            lots=self.lots(name, quantity_e9, f"{where}.quantity_e9"),
            price=self.ticks(name, spec.price_e9, f"{where}.price_e9"),
            trigger=self.ticks(name, spec.trigger_price_e9, f"{where}.trigger_price_e9"),
            expire_ns=spec.expire_time_ns,
            post_only=spec.post_only,
            reduce_only=spec.reduce_only,
        )

    def envelope(self, order: order_pb2.Order, pending: order_pb2.OrderSpec) -> Ask:
        """The larger of an order's terms and its pending ones: held until the venue answers."""
        old = self.ask(order.spec, order.leaves_quantity_e9)
        new = self.ask(pending, max(pending.quantity_e9 - order.cumulative_quantity_e9, order.leaves_quantity_e9))
        return Ask(
            # The same order: its own id would be a duplicate.
            client_order_id=f"{old.client_order_id}#{order.seq}",
            instrument_id=old.instrument_id,
            side=old.side,
            order_type=new.order_type,
            time_in_force=new.time_in_force,
            lots=max(old.lots, new.lots),
            price=worst_price(new.side, old.price, new.price),
            trigger=worst_price(new.side, old.trigger, new.trigger),
            expire_ns=new.expire_ns,
            post_only=new.post_only,
            reduce_only=new.reduce_only,
        )


def _column(values: Sequence[int]) -> NDArray[np.int64]:
    return np.fromiter(values, np.int64, len(values))


def _steps(given: NDArray[np.int64], increments: NDArray[np.int64], field: str) -> NDArray[np.int64]:
    """Prices in ticks or quantities in lots; the increment of what is not known is 1."""
    steps: NDArray[np.int64] = given // increments
    wrong = (steps * increments != given) | (given < 0)
    if wrong.any():
        row = int(np.argmax(wrong))
        if given[row] < 0:
            raise invalid(f"{field}[{row}]", "is below zero", "send zero or more")
        convert.to_steps(int(given[row]), int(increments[row]), f"{field}[{row}]")
    return steps


def rules(policy: execution_pb2.RiskPolicy) -> Rules:
    """A risk policy in nano units."""
    return Rules(
        version=policy.version,
        ts_ns=policy.ts_event_ns,
        max_age_ns=policy.max_age_ns,
        price_max_age_ns=policy.price_max_age_ns,
        trading_state=policy.trading_state,
        gross_limit=convert.money_e9(policy.gross_exposure_limit),
        net_limit=convert.money_e9(policy.net_exposure_limit),
        position_limit=convert.money_e9(policy.position_limit),
        sector_limit=convert.money_e9(policy.sector_limit),
        order_minimum=convert.money_e9(policy.order_notional_minimum),
        order_maximum=convert.money_e9(policy.order_notional_limit),
        daily_loss_limit=convert.money_e9(policy.daily_loss_limit),
        drawdown_bps=policy.drawdown_limit_bps,
        collar_bps=policy.price_collar_bps,
        leverage_bps=policy.leverage_limit_bps,
        concentration_bps=policy.concentration_limit_bps,
        orders_per_second=policy.orders_per_second,
        short_allowed=policy.short_allowed,
        restricted=frozenset(policy.restricted_instrument_ids),
        var_budget=convert.money_e9(policy.var_budget) if policy.HasField("var_budget") else None,
        var_used=convert.money_e9(policy.var_used),
    )
