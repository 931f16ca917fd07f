"""The venue's fill and fee models, and its report kinds, in the core's language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from execution_core.simulation.fees import FeeModel
from execution_core.types import MatchEventKind, VenueEventKind

from .config import Config

# VenueEventKind -> number of alphamesh.venue.v1.Report.Kind; a contract test holds the names equal.
REPORT_KINDS: Final[Mapping[int, int]] = {
    VenueEventKind.FILL: 3,
    VenueEventKind.TRIGGERED: 4,
    VenueEventKind.EXPIRED: 6,
    VenueEventKind.CANCELED: 5,
}

# MatchEventKind -> number of alphamesh.venue.v1.Report.Kind, likewise.
MATCH_REPORT_KINDS: Final[Mapping[int, int]] = {
    MatchEventKind.ACCEPTED: 1,
    MatchEventKind.REJECTED: 2,
    MatchEventKind.FILL: 3,
    MatchEventKind.TRIGGERED: 4,
    MatchEventKind.CANCELED: 5,
    MatchEventKind.EXPIRED: 6,
    MatchEventKind.REPLACED: 7,
    MatchEventKind.REPLACE_REJECTED: 8,
    MatchEventKind.CANCEL_REJECTED: 9,
}


def fee_model(config: Config) -> FeeModel:
    """What the venue charges."""
    return FeeModel(
        maker_rate_e8=config.maker_rate_e8,
        taker_rate_e8=config.taker_rate_e8,
        per_lot_nano=config.fee_per_lot_e9,
        minimum_nano=config.minimum_fee_e9,
    )


def fill_model(config: Config) -> dict[str, int]:
    """How the venue fills on bars: fields of FILL_MODEL."""
    return {
        "half_spread_ppm": config.half_spread_ppm,
        "impact_ppm": config.impact_ppm,
        "participation_cap_ppm": config.participation_cap_ppm,
        "slippage_bound_ppm": config.slippage_bound_ppm,
    }
