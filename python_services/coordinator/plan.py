"""From what risk approved to quantities to trade. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def planned_changes(
    instrument_ids: Sequence[str], current_e9: Sequence[int], approved_e9: Sequence[int]
) -> list[tuple[str, int]]:
    """(instrument_id, signed quantity e9) to trade: what frees cash first, then what needs it."""
    changes = [
        (name, approved - current)
        for name, current, approved in zip(instrument_ids, current_e9, approved_e9, strict=True)
        if approved != current
    ]
    return sorted(changes, key=lambda change: change[1] > 0)
