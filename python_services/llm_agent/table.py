"""What the model is shown: a small table of numbers computed from the snapshot, and nothing else.

Instruments are numbered and nothing is dated: a model that was trained on later years must not recognise what it
already knows the end of (Sarkar and Vafa 2024, Glasserman and Lin 2023). For the same reason no name or text of
anybody reaches the prompt, so that nobody can put an instruction into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core import indicators
from python_services.kit.agents import SAMPLE, Floats, Mask, Window, tail

RETURNS = (1, 5, 20, 60)
COLUMNS = (
    "row",
    *(f"return_{bars}" for bars in RETURNS),
    "daily_volatility",
    "rsi_14",
    "below_high_60",
    "above_low_60",
    "volume_5_to_60",
)


@dataclass(frozen=True, kw_only=True)
class Table:
    """rows: of the snapshot, in order; `lines` the same rows as the model sees them: number, then COLUMNS."""

    rows: tuple[int, ...]
    lines: tuple[tuple[float | int | None, ...], ...]

    def document(self) -> dict[str, Any]:
        """For the prompt."""
        return {"columns": list(COLUMNS), "rows": [list(line) for line in self.lines]}


def table_of(window: Window, able: Mask, most: int) -> Table:
    """The first `most` instruments that can be spoken about; needs SAMPLE + 1 bars of each.

    Returns and distances are fractions, the volatility is the standard deviation of a daily return. Four decimals: more
    says nothing, and costs. A value that could not be computed is null.
    """
    rows = np.flatnonzero(able & (window.daily_volatility > 0.0))[:most]
    close = tail(window.close, SAMPLE + 1)
    volume = tail(window.volume, SAMPLE)
    with np.errstate(invalid="ignore", divide="ignore"):
        columns: list[Floats] = [
            *(close[-1] / close[-1 - bars] - 1.0 for bars in RETURNS),
            window.daily_volatility,
            indicators.rsi(close, 14)[-1],
            close[-1] / tail(window.high, SAMPLE).max(axis=0) - 1.0,
            close[-1] / tail(window.low, SAMPLE).min(axis=0) - 1.0,
            volume[-5:].mean(axis=0) / volume.mean(axis=0),
        ]
    lines = tuple(_line(number, row, columns) for number, row in enumerate(rows.tolist(), start=1))
    return Table(rows=tuple(rows.tolist()), lines=lines)


def _line(number: int, row: int, columns: list[NDArray[np.float64]]) -> tuple[float | int | None, ...]:
    values = (float(column[row]) for column in columns)
    return (number, *(round(value, 4) + 0.0 if np.isfinite(value) else None for value in values))
