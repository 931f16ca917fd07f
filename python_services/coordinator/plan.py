"""From targets and a risk verdict to quantities. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """Signed quantities now and aimed at, and the lot, all e9."""

    instrument_id: str
    current_e9: int
    target_e9: int
    lot_e9: int


def planned_changes(changes: Sequence[Change], *, scale: float, reductions_only: bool) -> list[tuple[str, int]]:
    """(instrument_id, signed quantity e9) to trade: what frees cash first, then what needs it.

    Scaled changes are cut to whole lots towards zero. `reductions_only` keeps what brings a position
    closer to zero, and never through it.
    """
    planned = []
    for change in changes:
        lots = math.trunc((change.target_e9 - change.current_e9) // change.lot_e9 * scale)
        if reductions_only:
            held = change.current_e9 // change.lot_e9
            lots = max(lots, -held) if held > 0 else min(lots, -held)
            lots = min(lots, 0) if held > 0 else max(lots, 0) if held < 0 else 0
        if lots:
            planned.append((change.instrument_id, lots * change.lot_e9))
    return sorted(planned, key=lambda item: item[1] > 0)
