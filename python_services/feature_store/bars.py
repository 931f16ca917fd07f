"""All versions of the bars of one instrument, and what was known of them at a moment. Pure.

A bar has two times: its close, and when it became known. What holds at a cut is, of each bar, the version with the
latest known time up to it. So values can change only at a *moment*: a time at which a version became known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from .definitions import COLUMNS, Floats, Window

Ints: TypeAlias = NDArray[np.int64]

PRICES = ("open", "high", "low", "close")
STEPS = ("step", "split")
FORCES = 4  # kept: most instruments have one, as nothing came in late


@dataclass(frozen=True, kw_only=True)
class At:
    """What is known at each of some cuts. `held`: bars up to there; times are 0 where there is none."""

    window: Window
    held: Ints
    event_ns: Ints
    known_ns: Ints

    @staticmethod
    def joined(parts: Sequence[At]) -> At:
        """Side by side, in this order."""
        window = {name: np.concatenate([getattr(part.window, name) for part in parts], axis=1) for name in COLUMNS}
        held, event_ns, known_ns = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("held", "event_ns", "known_ns")
        )
        return At(window=Window(**window), held=held, event_ns=event_ns, known_ns=known_ns)


@dataclass(frozen=True, kw_only=True, eq=False)
class Force:
    """The versions in force of all bars, ascending by close, and the products of their steps."""

    ts: Ints
    known: Ints
    columns: Mapping[str, Floats]
    factor: Floats
    split: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class Bars:
    """Versions, ascending by close, then known time: one entry each.

    Prices and volume as they were traded; `step` and `split`: factors by which everything before the bar is scaled.
    """

    ts: Ints
    known: Ints
    values: Mapping[str, Floats]

    @staticmethod
    def of(rows: Mapping[tuple[int, int], tuple[float, ...]]) -> Bars:
        """From (close, known time) -> COLUMNS and STEPS; a step of 0 is one that the version does not state."""
        keys = sorted(rows)
        ts = np.array([key[0] for key in keys], dtype=np.int64)
        known = np.array([key[1] for key in keys], dtype=np.int64)
        table = np.array([rows[key] for key in keys], dtype=np.float64).reshape(len(keys), len(COLUMNS) + len(STEPS))
        values = {name: np.ascontiguousarray(table[:, i]) for i, name in enumerate((*COLUMNS, *STEPS))}
        for name in STEPS:
            column = values[name]
            for i in np.flatnonzero(column == 0.0).tolist():
                column[i] = column[i - 1] if i and ts[i - 1] == ts[i] else 1.0
        return Bars(ts=ts, known=known, values=values)

    def __len__(self) -> int:
        return len(self.ts)

    @cached_property
    def moments(self) -> Ints:
        """When something became known, ascending, each once."""
        return np.unique(self.known)

    @cached_property
    def _late(self) -> Ints:
        return np.sort(self.known[self.known > self.ts])

    def at(self, cuts: Ints, bars: int) -> At:
        """What is known at each cut, in windows of `bars` bars.

        Prices at t x factor(t) / factor(cut), as market_data cuts its snapshots: bit for bit the same numbers.
        """
        window = {name: np.full((bars, len(cuts)), np.nan) for name in COLUMNS}
        held, event_ns, known_ns = (np.zeros(len(cuts), dtype=np.int64) for _ in range(3))
        epochs = np.searchsorted(self._late, cuts, side="right")
        for epoch in np.unique(epochs).tolist():
            chosen = np.flatnonzero(epochs == epoch)
            force = self._in_force(epoch)
            ends = np.searchsorted(force.ts, cuts[chosen], side="right")
            held[chosen] = ends
            some = ends > 0
            chosen, ends = chosen[some], ends[some]
            if len(chosen):
                event_ns[chosen], known_ns[chosen] = force.ts[ends - 1], force.known[ends - 1]
                _fill(window, chosen, ends, force, bars)
        return At(window=Window(**window), held=held, event_ns=event_ns, known_ns=known_ns)

    def event_times(self) -> Ints:
        """Close of the newest bar known at each moment."""
        order = np.argsort(self.known, kind="stable")
        newest = np.maximum.accumulate(self.ts[order])
        return newest[np.searchsorted(self.known[order], self.moments, side="right") - 1]

    def fingerprint(self, until_ns: int) -> str:
        """Hex sha256 of all that was known up to a moment: values as of then depend on nothing else."""
        seen = self.known <= until_ns
        digest = hashlib.sha256()
        for column in (self.ts, self.known, *(self.values[name] for name in (*COLUMNS, *STEPS))):
            digest.update(column[seen].tobytes())
        return digest.hexdigest()

    @cached_property
    def _forces(self) -> dict[int, Force]:
        return {}

    def _in_force(self, epoch: int) -> Force:
        """What holds after the first `epoch` late versions; bars known at their close are all in, as a cut ends before
        those that close after it."""
        found = self._forces.get(epoch)
        if found is None:
            included = self.known == self.ts
            if epoch:
                included |= self.known <= self._late[epoch - 1]
            places = np.flatnonzero(included)
            newest = np.ones(len(places), dtype=np.bool_)
            newest[:-1] = self.ts[places[1:]] != self.ts[places[:-1]]
            places = places[newest]
            found = Force(
                ts=self.ts[places],
                known=self.known[places],
                columns={name: self.values[name][places] for name in COLUMNS},
                factor=np.asarray(np.cumprod(self.values["step"][places]), dtype=np.float64),
                split=np.asarray(np.cumprod(self.values["split"][places]), dtype=np.float64),
            )
            if len(self._forces) >= FORCES:
                self._forces.clear()
            self._forces[epoch] = found
        return found


def _fill(window: dict[str, Floats], chosen: Ints, ends: Ints, force: Force, bars: int) -> None:
    index = ends[None, :] - bars + np.arange(bars)[:, None]
    missing = index < 0
    index[missing] = 0
    price_scale = force.factor[index] / force.factor[ends - 1]
    volume_scale = force.split[ends - 1] / force.split[index]
    whole = len(chosen) == window["close"].shape[1]
    for name in COLUMNS:
        found = force.columns[name][index] * (price_scale if name in PRICES else volume_scale)
        found[missing] = np.nan
        if whole:
            window[name] = found
        else:
            window[name][:, chosen] = found


def of_snapshot(columns: Mapping[str, Floats], ts_event_ns: Ints, bars: int) -> At:
    """The same from the columns of a snapshot (bars x instruments, NaN where there is no bar).

    Each instrument has its own bars only: a day on which others traded and it did not is no bar. Where every instrument
    has all of the newest bars, the window is a view of the columns.
    """
    present = ~np.isnan(columns["close"])
    length, instruments = present.shape
    held = present.sum(axis=0) if not present.all() else np.full(instruments, length)
    gaps = np.arange(instruments) if length < bars else np.flatnonzero(~present[-bars:].all(axis=0))
    if not len(gaps):
        tails = {name: np.require(columns[name][-bars:], requirements=["C", "W"]) for name in COLUMNS}
        newest = np.full(instruments, ts_event_ns[-1])
        return At(window=Window(**tails), held=held, event_ns=newest, known_ns=np.zeros(instruments, dtype=np.int64))
    # Positions of the last `bars` bars of each instrument, in order: absent ones sort to the front.
    order = np.argsort(present[:, gaps], axis=0, kind="stable")[-bars:]
    if length < bars:
        order = np.concatenate([np.zeros((bars - length, len(gaps)), dtype=order.dtype), order])
    missing = np.arange(bars)[:, None] < bars - held[gaps]
    window = {}
    for name in COLUMNS:
        values = columns[name][order, gaps]
        values[missing] = np.nan
        if len(gaps) < instruments:
            whole = np.array(columns[name][-bars:], order="C")
            whole[:, gaps] = values
            values = whole
        window[name] = np.ascontiguousarray(values)
    newest = np.full(instruments, ts_event_ns[-1])
    newest[gaps] = np.where(held[gaps] > 0, ts_event_ns[order[-1]], 0)
    return At(window=Window(**window), held=held, event_ns=newest, known_ns=np.zeros(instruments, dtype=np.int64))
