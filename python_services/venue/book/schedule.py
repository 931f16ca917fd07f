"""The venue's schedule as an event: the books that are rebuilt had the fees of their day."""

from __future__ import annotations

from alphamesh.venue.v1 import events_pb2, venue_pb2

from ..config import NONE, Config
from .orders import Schedule, make_schedule


def recorded(config: Config) -> events_pb2.ScheduleSet:
    """What of a configuration the books depend on."""
    mode = config.self_trade_prevention
    name = "UNSPECIFIED" if mode == NONE else mode
    return events_pb2.ScheduleSet(
        fee_per_lot_e9=config.fee_per_lot_e9,
        taker_rate_e8=config.taker_rate_e8,
        maker_rate_e8=config.maker_rate_e8,
        minimum_fee_e9=config.minimum_fee_e9,
        currency=config.currency,
        self_trade_prevention=venue_pb2.SelfTradePrevention.Value(f"SELF_TRADE_PREVENTION_{name}"),
        initial_phase=venue_pb2.SessionPhase.Value(f"SESSION_PHASE_{config.initial_phase}"),
    )


def scheduled(event: events_pb2.ScheduleSet) -> Schedule:
    """The schedule that an event says."""
    return make_schedule(
        maker_rate_e8=event.maker_rate_e8,
        taker_rate_e8=event.taker_rate_e8,
        fee_per_lot_e9=event.fee_per_lot_e9,
        minimum_fee_e9=event.minimum_fee_e9,
        self_trade=event.self_trade_prevention,
        phase=event.initial_phase,
    )
