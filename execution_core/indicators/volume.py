"""Volume: on-balance volume. Panels of shape (bars, symbols); see ``panel.py``."""

from __future__ import annotations

from execution_core.indicators import recursive
from execution_core.indicators.panel import Panel, check_prices, check_volumes, result


def obv(close: Panel, volume: Panel, *, out: Panel | None = None) -> Panel:
    """On-balance volume (Granville 1963), in the volume's unit.

    A segment starts at its first bar's volume, as in TA-Lib; only differences carry meaning.
    Exact while every partial sum stays below 2^53.

    Raises InvalidArrayError, InvalidValueError.
    """
    close = check_prices("close", close)
    volume = check_volumes("volume", volume, close)
    answer = result(close, out)
    recursive.signed_volume(close, volume, answer)
    return answer
