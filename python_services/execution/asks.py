"""From contract messages to the gate's language: increments checked, worst cases taken."""

from __future__ import annotations

from collections.abc import Mapping

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import convert

from .gatekeeper import Ask, Listing, Rules, worst_price


class Catalogue:
    """The instruments, and conversions that need their increments."""

    def __init__(self, instruments: Mapping[str, marketdata_pb2.Instrument]) -> None:
        self._instruments = dict(instruments)
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
            )
            for name, i in self._instruments.items()
        ]

    def __contains__(self, instrument_id: str) -> bool:
        return instrument_id in self._instruments

    def ticks(self, instrument_id: str, price_e9: int, field: str) -> int:
        """A price in ticks. Raises ServiceError when it is off the increment."""
        return convert.to_steps(price_e9, self._instruments[instrument_id].price_increment_e9, field)

    def reference_ticks(self, instrument_id: str, price_e9: int) -> int:
        """A mark in ticks, for the gate's reference price."""
        return convert.nearest_steps(price_e9, self._instruments[instrument_id].price_increment_e9)

    def lots(self, instrument_id: str, quantity_e9: int, field: str) -> int:
        """A quantity in lots. Raises ServiceError when it is off the increment."""
        return convert.to_steps(quantity_e9, self._instruments[instrument_id].size_increment_e9, field)

    def quantity_e9(self, instrument_id: str, lots: int) -> int:
        """Lots as a quantity."""
        return convert.from_steps(lots, self._instruments[instrument_id].size_increment_e9, "quantity_e9")

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
