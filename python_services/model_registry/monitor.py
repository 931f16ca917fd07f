"""What is known of one version from what callers observed: counters, windows, losses, distributions. Pure.

Fed by the registry's own events in order, so a restart rebuilds the same numbers, bit for bit. Rows of one question are
taken together and give the same numbers as one after the other: what is summed is summed in their order. Everything is
bounded: windows have a fixed length, and an answer whose outcome does not come is forgotten at last.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alphamesh.model.v1 import model_pb2

from .drift import Adwin, Bins
from .kept import Kept
from .observations import Answer, Failure, Floats, Outcome

Flags = NDArray[np.bool_]
# Nobody answered, or nobody asked: says something of the server, of the version only when others were answered.
SERVER = frozenset({model_pb2.Observation.REASON_UNAVAILABLE, model_pb2.Observation.REASON_BREAKER_OPEN})
CALIBRATION_BINS = 10
SMALLEST = 0.01  # probabilities are cut here, so that one sure mistake is no infinite loss
LARGEST_LOSS = -math.log(SMALLEST)  # of a probability; also the bound of squared errors that are compared


@dataclass(frozen=True, kw_only=True)
class Window:
    """Lengths of what is looked at, in answers."""

    errors: int = 1_000
    latency: int = 100
    latencies_kept: int = 3
    reference: int = 500  # the first answers, which later ones are compared with
    current: int = 500
    waiting: int = 50_000  # answers whose outcome may still come


@dataclass(frozen=True, kw_only=True)
class Range:
    """What a value of a prediction may be; by default anything finite."""

    minimum: float = -math.inf
    maximum: float = math.inf


@dataclass(kw_only=True)
class Losses:
    """Outcomes: loss, calibration, correlation with returns, profit."""

    count: int = 0
    loss: float = 0.0
    brier: float = 0.0
    bins: list[list[float]] = field(default_factory=lambda: [[0.0, 0.0, 0.0] for _ in range(CALIBRATION_BINS)])
    returns: int = 0
    moments: list[float] = field(default_factory=lambda: [0.0] * 5)  # x, y, xx, yy, xy
    realized: float = 0.0
    highest: float = 0.0
    drawdown: float = 0.0

    def add(self, prediction: Floats, value: Floats, loss: Floats, probability: bool, realized: Floats | None) -> None:
        """Takes outcomes."""
        self.count += len(loss)
        self.loss = float(_running(self.loss, loss)[-1])
        if probability:
            self.brier = float(_running(self.brier, (prediction - value) ** 2)[-1])
            places = np.minimum((prediction * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
            bins = np.array(self.bins)
            np.add.at(bins, places, np.column_stack([np.ones(len(value)), prediction, value]))
            self.bins = bins.tolist()
        if realized is not None:
            self.returns += len(realized)
            x, y = prediction, realized
            terms = zip(self.moments, (x, y, x * x, y * y, x * y), strict=True)
            self.moments = [float(_running(moment, term)[-1]) for moment, term in terms]
            path = _running(self.realized, realized)
            highest = np.maximum.accumulate(np.maximum(path, self.highest))
            self.drawdown = max(self.drawdown, float((highest - path).max()))
            self.realized, self.highest = float(path[-1]), float(highest[-1])

    @property
    def calibration_error(self) -> float | None:
        """Expected calibration error over ten equal bins (Naeini et al. 2015)."""
        total = sum(row[0] for row in self.bins)
        return sum(abs(row[1] - row[2]) for row in self.bins) / total if total else None

    @property
    def information_coefficient(self) -> float | None:
        """Pearson correlation of prediction and realized return; absent without variation."""
        n = self.returns
        if n < 3:
            return None
        x, y, xx, yy, xy = (moment / n for moment in self.moments)
        spread = (xx - x * x) * (yy - y * y)
        return (xy - x * y) / math.sqrt(spread) if spread > 1e-24 else None


class Sample:
    """Rows of numbers, a column for each kind: the first ones, and, in any order, the latest."""

    def __init__(self, columns: int, window: Window) -> None:
        self._first = np.empty((window.reference, columns))
        self._latest = np.empty((window.current, columns))
        self._rows = 0
        self._bins: Bins | None = None

    def __len__(self) -> int:
        """Kinds."""
        return self._first.shape[1]

    def __repr__(self) -> str:
        """By content: states are compared by what they print."""
        return f"Sample({self._rows}, {hashlib.sha256(self.first.tobytes() + self.latest.tobytes()).hexdigest()})"

    def add(self, rows: Floats) -> None:
        """Fills the reference first, then slides. rows: rows x kinds."""
        reference, length = len(self._first), len(self._latest)
        missing = max(reference - self._rows, 0)
        begin, later = rows[:missing], rows[missing:]
        self._first[self._rows : self._rows + len(begin)] = begin
        self._rows += len(rows)
        later = later[-length:]
        self._latest[(self._rows - reference - len(later) + np.arange(len(later))) % length] = later

    @property
    def first(self) -> Floats:
        """Rows x columns of the reference."""
        return self._first[: self._rows]

    @property
    def latest(self) -> Floats:
        """Rows x columns of what came after it."""
        return self._latest[: max(self._rows - len(self._first), 0)]

    @property
    def bins(self) -> Bins:
        """Of the reference, once that is whole."""
        if self._bins is None:
            self._bins = Bins.of(self.first)
        return self._bins


@dataclass(kw_only=True)
class Fault:
    """An answer that no version may give."""

    value: float
    where: str
    limit: float


@dataclass(kw_only=True)
class Monitor:
    """One version since it reached its stage. `probability`: its first output is the probability of an outcome of 1."""

    ranges: tuple[Range, ...]
    probability: bool
    window: Window = field(default_factory=Window)
    requests: int = 0
    answers: int = 0
    failures: int = 0
    server_failures: int = 0
    in_a_row: int = 0
    last_ok: bool = True
    not_finite: Fault | None = None
    out_of_range: Fault | None = None
    results: deque[bool] = field(init=False)  # True: failed
    failed_lately: int = 0
    latencies: list[int] = field(default_factory=list)
    p50s: deque[int] = field(init=False)
    p99s: deque[int] = field(init=False)
    waiting: Kept = field(init=False)  # first predictions
    losses: Losses = field(default_factory=Losses)
    lost: Kept = field(init=False)  # losses, for the comparison with other versions
    adwin: Adwin = field(default_factory=Adwin)
    rise: tuple[float, float] | None = None
    predictions: Sample = field(init=False)
    features: Sample | None = None
    alerted: dict[int, int] = field(default_factory=dict)  # trigger -> requests at its last alert

    def __post_init__(self) -> None:
        """The first value of each prediction is looked at."""
        self.p50s, self.p99s = (deque(maxlen=self.window.latencies_kept) for _ in range(2))
        self.results = deque(maxlen=self.window.errors)
        self.waiting, self.lost = Kept(self.window.waiting), Kept(self.window.waiting)
        self.predictions = Sample(1, self.window)

    def answer(self, answer: Answer) -> None:
        """Takes answers."""
        self.answers += len(answer.prediction)
        self._latency(answer.latency_ns, len(answer.prediction))
        fault = self._faults(answer.prediction)
        self._result(fault)
        sound = ~fault
        if not sound.any():
            return
        first = answer.prediction[sound, 0]
        self.waiting.put(answer.question.key, answer.question.rows[sound], first)
        self.predictions.add(first[:, None])
        if answer.features is not None:
            if self.features is None or len(self.features) != answer.features.shape[1]:
                self.features = Sample(answer.features.shape[1], self.window)
            self.features.add(answer.features[sound])

    def failure(self, failure: Failure, *, others_answered: bool) -> None:
        """Takes failures. The server's count against the version only when others were answered."""
        count = len(failure.question.rows)
        if failure.reason in SERVER and not others_answered:
            self.requests += count
            self.server_failures += count
            self.last_ok = False
            return
        if failure.reason == model_pb2.Observation.REASON_NOT_FINITE:
            self.not_finite = self.not_finite or Fault(value=math.nan, where="the caller refused the answer", limit=0.0)
        if failure.latency_ns:
            self._latency(failure.latency_ns, count)
        self._result(np.ones(count, dtype=np.bool_))

    def outcome(self, outcome: Outcome) -> Floats:
        """The loss of each row; NaN where the answer is not known (any more)."""
        prediction = self.waiting.pop(outcome.question.key, outcome.question.rows)
        losses = self.loss_of(prediction, outcome.value)
        known = ~np.isnan(prediction)
        if not known.any():
            return losses
        loss = losses[known]
        realized = None if outcome.realized_return is None else outcome.realized_return[known]
        self.losses.add(prediction[known], outcome.value[known], loss, self.probability, realized)
        self.lost.put(outcome.question.key, outcome.question.rows[known], loss)
        for before, now in self.adwin.extend(np.minimum(loss / LARGEST_LOSS, 1.0).tolist()):
            if now > before:
                self.rise = before * LARGEST_LOSS, now * LARGEST_LOSS
        return losses

    def loss_of(self, prediction: Floats, value: Floats) -> Floats:
        """Log-loss of probabilities, else the squared error."""
        if not self.probability:
            return np.asarray((prediction - value) ** 2)
        p = np.minimum(np.maximum(prediction, SMALLEST), 1.0 - SMALLEST)
        return np.asarray(-(value * np.log(p) + (1.0 - value) * np.log(1.0 - p)))

    @property
    def error_rate(self) -> float:
        """Share of the latest requests that failed."""
        return self.failed_lately / len(self.results) if self.results else 0.0

    def _latency(self, latency_ns: int, count: int) -> None:
        self.latencies += [latency_ns] * count
        length = self.window.latency
        while len(self.latencies) >= length:
            ordered = sorted(self.latencies[:length])
            del self.latencies[:length]
            for kept, share in ((self.p50s, 0.5), (self.p99s, 0.99)):
                kept.append(ordered[math.ceil(share * (length - 1))])

    def _faults(self, prediction: Floats) -> Flags:
        """Which answers are one; the first of each kind is kept."""
        wild: Flags = ~np.isfinite(prediction)
        fault = np.asarray(wild.any(axis=1))
        if fault.any() and self.not_finite is None:
            row, column = np.argwhere(wild)[0].tolist()
            self.not_finite = Fault(value=float(prediction[row, column]), where=f"prediction[{column}]", limit=0.0)
        if not self.ranges or fault.all():
            return fault
        width = prediction.shape[1]
        if width != len(self.ranges):
            self.out_of_range = self.out_of_range or Fault(
                value=float(width), where="the number of values", limit=float(len(self.ranges))
            )
            return np.ones_like(fault)
        low = prediction < [allowed.minimum for allowed in self.ranges]
        outside = (low | (prediction > [allowed.maximum for allowed in self.ranges])) & ~fault[:, None]
        if outside.any() and self.out_of_range is None:
            row, column = np.argwhere(outside)[0].tolist()
            allowed = self.ranges[column]
            limit = allowed.minimum if low[row, column] else allowed.maximum
            self.out_of_range = Fault(value=float(prediction[row, column]), where=f"prediction[{column}]", limit=limit)
        return np.asarray(fault | outside.any(axis=1))

    def _result(self, failed: Flags) -> None:
        self.requests += len(failed)
        self.last_ok = not failed[-1]
        self.failures += int(failed.sum())
        good = np.flatnonzero(~failed)
        self.in_a_row = len(failed) - 1 - int(good[-1]) if len(good) else self.in_a_row + len(failed)
        self.results.extend(failed.tolist())
        self.failed_lately = sum(self.results)


def _running(start: float, values: Floats) -> Floats:
    """Sums so far, each of all before it: as adding one after the other gives them, bit for bit."""
    return np.asarray(np.add.accumulate(np.concatenate(([start], values))))[1:]
