"""Schedules of a parent order as pure functions of the parent, the clock and the market.

A plan (TWAP, VWAP, implementation shortfall) is a ``SCHEDULE_SLICE`` array whose lots sum to the
parent exactly. ``due_lots`` then says how much to send now. POV and ICEBERG follow the market
instead of a plan. Nothing here keeps state, so a simulation and a live service that ask with the
same numbers send the same children:

    lots = due_lots(plan, now_ns, parent_lots, filled + working)

`committed` is what is filled plus what works at the venue. Lots of a child that expired or was
canceled leave it, so the next call sends them again.

Sources: Kissell, The Science of Algorithmic Trading and Portfolio Management (2013), ch. 1 and 9
(TWAP, VWAP, POV); Almgren, Chriss (2000) in ``almgren_chriss``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.algorithms.almgren_chriss import ImpactModel, optimal_holdings
from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.types import SCHEDULE_SLICE

Plan = NDArray[np.void]

_MILLION = 1_000_000
_LOTS_LIMIT = 2**43


def _check_lots(lots: int, multiple: int) -> None:
    if not 0 < lots < _LOTS_LIMIT:
        raise InvalidValueError("lots", f"{lots} outside (0, 2**43)", "give the parent's quantity in lots")
    if not 0 < multiple <= lots:
        raise InvalidValueError("multiple", f"{multiple} outside [1, lots]", "give the round lot")


def _plan(starts: NDArray[np.int64], targets: Sequence[int], lots: int, multiple: int) -> Plan:
    """Slices from cumulative targets; children are multiples of `multiple` except the last."""
    cumulative = np.array([target // multiple * multiple for target in targets], np.int64)
    cumulative[-1] = lots
    plan = np.zeros(len(starts), SCHEDULE_SLICE)
    plan["start_ns"] = starts
    plan["lots"] = np.diff(cumulative, prepend=0)
    return plan


def slice_starts(start_ns: int, end_ns: int, slices: int) -> NDArray[np.int64]:
    """The start of each of `slices` equal parts of ``[start_ns, end_ns)``, rounded down."""
    if not 0 <= start_ns < end_ns < 2**63:
        raise InvalidValueError("end_ns", "not after start_ns", "give a non-empty half-open range")
    if not 0 < slices <= end_ns - start_ns:
        raise InvalidValueError("slices", f"{slices} do not fit in the range", "give at least 1")
    return np.array([start_ns + (end_ns - start_ns) * k // slices for k in range(slices)], np.int64)


def twap(lots: int, start_ns: int, end_ns: int, slices: int, *, multiple: int = 1) -> Plan:
    """Equal lots in equal time: after slice k, ``lots * (k + 1) // slices`` are due.

    Returns
    -------
    ``SCHEDULE_SLICE`` (slices,), lots summing to `lots`.
    """
    _check_lots(lots, multiple)
    starts = slice_starts(start_ns, end_ns, slices)
    return _plan(starts, [lots * (k + 1) // slices for k in range(slices)], lots, multiple)


def volume_profile(volumes: Any) -> NDArray[np.int64]:
    """The mean share of the day's volume of each bucket, in parts per million.

    Each day counts the same, so one heavy day does not shape the profile.

    Parameters
    ----------
    volumes
        int64 (days, buckets), lots; a day without volume is left out.
    """
    history = np.asarray(volumes)
    if history.ndim != 2 or history.dtype.kind not in "iu" or history.shape[1] == 0:
        raise InvalidArrayError("volumes", "not an integer matrix (days, buckets)", "give lots")
    if (history < 0).any():
        raise InvalidValueError("volumes", "negative", "give traded lots")
    totals = history.sum(axis=1, keepdims=True)
    traded = history[totals[:, 0] > 0]
    if len(traded) == 0:
        raise InvalidValueError("volumes", "no day with volume", "give a history of traded lots")
    shares = (traded / totals[totals[:, 0] > 0]).mean(axis=0)
    profile: NDArray[np.int64] = np.rint(shares * _MILLION).astype(np.int64)
    return profile


def vwap(lots: int, start_ns: int, end_ns: int, profile: Any, *, multiple: int = 1) -> Plan:
    """Lots in proportion to the expected volume: one slice for each bucket of `profile`.

    Parameters
    ----------
    profile
        int64 (slices,), non-negative weights of any scale, such as ``volume_profile``'s.
    """
    _check_lots(lots, multiple)
    weights = np.asarray(profile)
    if weights.ndim != 1 or weights.dtype.kind not in "iu" or len(weights) == 0:
        raise InvalidArrayError("profile", "not an integer vector", "give one weight per bucket")
    if (weights < 0).any() or not (weights > 0).any():
        raise InvalidValueError("profile", "negative or all zero", "give expected volumes")
    starts = slice_starts(start_ns, end_ns, len(weights))
    running, targets = 0, []
    total = sum(weights.tolist())
    for weight in weights.tolist():
        running += weight
        targets.append(lots * running // total)
    return _plan(starts, targets, lots, multiple)


def implementation_shortfall(
    lots: int,
    start_ns: int,
    end_ns: int,
    slices: int,
    model: ImpactModel,
    *,
    shares_per_lot: float = 1.0,
    horizon: float = 1.0,
    risk_aversion: float,
    multiple: int = 1,
) -> Plan:
    """The optimal trajectory of Almgren and Chriss, in lots.

    Parameters
    ----------
    horizon
        How long ``[start_ns, end_ns)`` is in the unit of time of `model` (days of trading).
    risk_aversion
        Lambda, per unit of money. Zero gives TWAP.
    """
    _check_lots(lots, multiple)
    starts = slice_starts(start_ns, end_ns, slices)
    holdings = optimal_holdings(lots * shares_per_lot, horizon, slices, risk_aversion, model)
    left = holdings[1:] / shares_per_lot
    # A trajectory may overshoot by rounding only; the plan must stay within [0, lots] and rise.
    targets = np.clip(np.rint(lots - left), 0, lots).astype(np.int64)
    return _plan(starts, np.maximum.accumulate(targets).tolist(), lots, multiple)


def due_lots(plan: Plan, now_ns: int, committed: int) -> int:
    """Lots to send now: the slices that have started, less what is filled or working.

    Never negative: a parent ahead of its plan waits. Slices that were missed are due at once.
    """
    if not isinstance(plan, np.ndarray) or plan.dtype != SCHEDULE_SLICE or plan.ndim != 1:
        raise InvalidArrayError("plan", "not a SCHEDULE_SLICE vector", "use twap, vwap or another schedule")
    if committed < 0:
        raise InvalidValueError("committed", "negative", "give filled plus working lots")
    started = int(np.searchsorted(plan["start_ns"], now_ns, side="right"))
    return max(int(plan["lots"][:started].sum()) - committed, 0)


def pov_due_lots(lots: int, committed: int, market_lots: int, rate_ppm: int, *, multiple: int = 1) -> int:
    """Percentage of volume: keep own lots at `rate_ppm` of all lots traded since the start.

    Parameters
    ----------
    lots, committed
        The parent, and what of it is filled or working.
    market_lots
        Lots traded in the market since the parent started, our own fills included.
    multiple
        Children are multiples of this, except the one that completes the parent.
    """
    _check_lots(lots, multiple)
    if not 0 < rate_ppm <= _MILLION:
        raise InvalidValueError("rate_ppm", f"{rate_ppm} outside (0, 1e6]", "give parts per million")
    if not 0 <= committed <= lots or market_lots < 0:
        raise InvalidValueError("committed", "outside [0, lots], or market_lots negative", "count lots")
    target = min(lots, int(market_lots) * rate_ppm // _MILLION)
    due = max(target - committed, 0)
    return due if committed + due == lots else due // multiple * multiple


def iceberg_due_lots(lots: int, filled: int, working: int, display: int) -> int:
    """A synthetic iceberg: show `display` lots, and the next peak when the last one is gone."""
    _check_lots(lots, 1)
    if display <= 0:
        raise InvalidValueError("display", "not positive", "give the peak in lots")
    if filled < 0 or working < 0 or filled + working > lots:
        raise InvalidValueError("working", "filled plus working outside [0, lots]", "count lots")
    return 0 if working else min(display, lots - filled)
