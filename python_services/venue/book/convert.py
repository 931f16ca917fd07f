"""From contract messages to the books' language and back; nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import convert
from python_services.kit.errors import invalid

from .orders import Limits, Terms

# Prices beyond this could leave int64 where a trailing order's limit is computed from them.
LARGEST_E9: Final = 2**62
AMENDABLE: Final = ("quantity_e9", "price_e9", "trigger_price_e9")


class Instruments:
    """The instruments that are traded, by number and by id."""

    def __init__(self, instruments: Sequence[marketdata_pb2.Instrument]) -> None:
        self._all = list(instruments)
        self.index = {instrument.instrument_id: i for i, instrument in enumerate(instruments)}

    def __getitem__(self, index: int) -> marketdata_pb2.Instrument:
        return self._all[index]

    @property
    def tick_values(self) -> list[int]:
        """Worth of one tick on one lot of each, nano units."""
        return [convert.notional_e9(i.price_increment_e9, i.size_increment_e9, i.multiplier_e9) for i in self._all]

    def number(self, instrument_id: str, field: str = "instrument_id") -> int:
        """Raises ServiceError for an instrument that is not traded here."""
        try:
            return self.index[instrument_id]
        except KeyError:
            known = ", ".join(list(self.index)[:10])
            raise invalid(field, f"{instrument_id!r} is not traded here", f"use one of {known}") from None

    def terms(self, order: venue_pb2.VenueOrder, where: str = "") -> Terms:
        """An order of a known instrument in ticks and lots. Raises ServiceError for what is off its increment."""
        number = self.index[order.instrument_id]
        tick, lot = self._all[number].price_increment_e9, self._all[number].size_increment_e9

        def price(field: str) -> int | None:
            return _ticks(getattr(order, field), tick, where + field) if order.HasField(field) else None  # type: ignore[arg-type]

        return Terms(
            account_id=order.account_id,
            client_order_id=order.client_order_id,
            instrument=number,
            side=order.side,
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            lots=convert.to_steps(order.quantity_e9, lot, f"{where}quantity_e9"),
            price=price("price_e9"),
            trigger=price("trigger_price_e9"),
            trail=convert.to_steps(order.trailing_offset_e9, tick, f"{where}trailing_offset_e9"),
            limit_offset=convert.to_steps(order.limit_offset_e9, tick, f"{where}limit_offset_e9"),
            display=convert.to_steps(order.display_quantity_e9, lot, f"{where}display_quantity_e9"),
            expire_ns=order.expire_time_ns,
            post_only=order.post_only,
            reduce_only=order.reduce_only,
            self_trade=order.self_trade_prevention,
        )

    def limits(self, instrument_id: str, limits: venue_pb2.PriceLimits) -> Limits:
        """Limits in ticks. Raises ServiceError for what is off its increment, or lower above upper."""
        tick = self._all[self.number(instrument_id)].price_increment_e9
        lower, upper, reference = (
            _ticks(getattr(limits, field), tick, f"limits.{field}") if limits.HasField(field) else None
            for field in ("lower_price_e9", "upper_price_e9", "reference_price_e9")
        )
        if lower is not None and upper is not None and lower > upper:
            raise invalid("limits.lower_price_e9", "is above upper_price_e9", "swap them")
        return Limits(lower=lower, upper=upper, reference=reference)


def amended(known: venue_pb2.VenueOrder, wanted: venue_pb2.VenueOrder) -> tuple[venue_pb2.VenueOrder, str]:
    """The order with the new quantity and prices, and why that cannot be; a price that is absent stays."""
    merged = venue_pb2.VenueOrder()
    merged.CopyFrom(known)
    for field in AMENDABLE:
        if field == "quantity_e9" or wanted.HasField(field):  # type: ignore[arg-type]
            setattr(merged, field, getattr(wanted, field))
    if (wanted.instrument_id, wanted.side) != (known.instrument_id, known.side):
        return merged, "instrument and side cannot change"
    rest = [venue_pb2.VenueOrder(), venue_pb2.VenueOrder()]
    for bare, order in zip(rest, (known, wanted), strict=True):
        bare.CopyFrom(order)
        for field in (*AMENDABLE, "ts_init_ns"):
            bare.ClearField(field)  # type: ignore[arg-type]
    return merged, "" if rest[0] == rest[1] else "only quantity, price and trigger price can change"


def _ticks(price_e9: int, tick: int, field: str) -> int:
    if abs(price_e9) >= LARGEST_E9:
        raise invalid(field, f"{convert.decimal(price_e9)} is out of range", f"stay within {LARGEST_E9 // 10**9}")
    return convert.to_steps(price_e9, tick, field)
