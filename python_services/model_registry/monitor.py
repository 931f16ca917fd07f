"""What is known of one version from what callers observed: counters, windows, losses, distributions. Pure.

Fed by the registry's own events in order, so a restart rebuilds the same numbers, bit for bit. Everything is bounded:
windows have a fixed length, and an answer whose outcome does not come is forgotten at last.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alphamesh.model.v1 import model_pb2

from .drift import Adwin, Bins

Floats = NDArray[np.float64]
Reason = model_pb2.Observation.Reason
# Nobody answered, or nobody asked: says something of the server, of the version only when others were answered.
SERVER = frozenset({model_pb2.Observation.REASON_UNAVAILABLE, model_pb2.Observation.REASON_BREAKER_OPEN})
CALIBRATION_BINS = 10
SMALLEST = 0.01  # probabilities are cut here, so that one sure mistake is no infinite loss


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
    """What a value of a prediction may be. None: anything finite."""

    minimum: float | None = None
    maximum: float | None = None

    def holds(self, value: float) -> bool:
        """Whether the value is no fault."""
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)


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

    def add(self, prediction: float, value: float, loss: float, probability: bool, realized: float | None) -> None:
        """Takes one outcome."""
        self.count += 1
        self.loss += loss
        if probability:
            self.brier += (prediction - value) ** 2
            row = self.bins[min(int(prediction * CALIBRATION_BINS), CALIBRATION_BINS - 1)]
            row[0] += 1.0
            row[1] += prediction
            row[2] += value
        if realized is not None:
            self.returns += 1
            for i, term in enumerate(
                (prediction, realized, prediction * prediction, realized * realized, prediction * realized)
            ):
                self.moments[i] += term
            self.realized += realized
            self.highest = max(self.highest, self.realized)
            self.drawdown = max(self.drawdown, self.highest - self.realized)

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
        self._bins: list[Bins] | None = None

    def __len__(self) -> int:
        """Kinds."""
        return self._first.shape[1]

    def __repr__(self) -> str:
        """By content: states are compared by what they print."""
        return f"Sample({self._rows}, {hashlib.sha256(self.first.tobytes() + self.latest.tobytes()).hexdigest()})"

    def add(self, row: Sequence[float]) -> None:
        """Fills the reference first, then slides."""
        reference = len(self._first)
        if self._rows < reference:
            self._first[self._rows] = row
        else:
            self._latest[(self._rows - reference) % len(self._latest)] = row
        self._rows += 1

    @property
    def first(self) -> Floats:
        """Rows x columns of the reference."""
        return self._first[: self._rows]

    @property
    def latest(self) -> Floats:
        """Rows x columns of what came after it."""
        return self._latest[: max(self._rows - len(self._first), 0)]

    @property
    def bins(self) -> list[Bins]:
        """Of each column of the reference, once that is whole."""
        if self._bins is None:
            self._bins = [Bins.of(column) for column in self.first.T]
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
    results: deque[bool] = field(default_factory=deque)  # True: failed
    failed_lately: int = 0
    latencies: list[int] = field(default_factory=list)
    p50s: deque[int] = field(default_factory=deque)
    p99s: deque[int] = field(default_factory=deque)
    waiting: OrderedDict[str, float] = field(default_factory=OrderedDict)
    losses: Losses = field(default_factory=Losses)
    by_key: OrderedDict[str, float] = field(default_factory=OrderedDict)
    adwin: Adwin = field(default_factory=Adwin)
    rise: tuple[float, float] | None = None
    predictions: Sample = field(init=False)
    features: Sample | None = None
    alerted: dict[int, int] = field(default_factory=dict)  # trigger -> requests at its last alert

    def __post_init__(self) -> None:
        """The first value of each prediction is looked at."""
        self.predictions = Sample(1, self.window)

    def answer(self, key: str, answer: model_pb2.Observation.Answer) -> None:
        """Takes an answer."""
        self.answers += 1
        self._latency(answer.latency_ns)
        fault = self._fault(answer.prediction)
        self._result(failed=fault)
        if fault:
            return
        first = answer.prediction[0]
        self.waiting[key] = first
        if len(self.waiting) > self.window.waiting:
            self.waiting.popitem(last=False)
        self.predictions.add((first,))
        if answer.features:
            if self.features is None or len(self.features) != len(answer.features):
                self.features = Sample(len(answer.features), self.window)
            self.features.add(answer.features)

    def failure(self, failure: model_pb2.Observation.Failure, *, others_answered: bool) -> None:
        """Takes a failure. One of the server's counts against the version only when others were answered."""
        if failure.reason in SERVER and not others_answered:
            self.requests += 1
            self.server_failures += 1
            self.last_ok = False
            return
        if failure.reason == model_pb2.Observation.REASON_NOT_FINITE:
            self.not_finite = self.not_finite or Fault(value=math.nan, where="the caller refused the answer", limit=0.0)
        if failure.latency_ns:
            self._latency(failure.latency_ns)
        self._result(failed=True)

    def outcome(self, key: str, outcome: model_pb2.Observation.Outcome) -> float | None:
        """The loss; None when the answer is not known (any more)."""
        prediction = self.waiting.pop(key, None)
        if prediction is None:
            return None
        loss = self.loss_of(prediction, outcome.value)
        realized = outcome.realized_return if outcome.HasField("realized_return") else None
        self.losses.add(prediction, outcome.value, loss, self.probability, realized)
        self.by_key[key] = loss
        if len(self.by_key) > self.window.waiting:
            self.by_key.popitem(last=False)
        change = self.adwin.add(min(loss / LARGEST_LOSS, 1.0))
        if change is not None and change[1] > change[0]:
            self.rise = change[0] * LARGEST_LOSS, change[1] * LARGEST_LOSS
        return loss

    def loss_of(self, prediction: float, value: float) -> float:
        """Log-loss of a probability, else the squared error."""
        if not self.probability:
            return (prediction - value) ** 2
        p = min(max(prediction, SMALLEST), 1.0 - SMALLEST)
        return -(value * math.log(p) + (1.0 - value) * math.log(1.0 - p))

    @property
    def error_rate(self) -> float:
        """Share of the latest requests that failed."""
        return self.failed_lately / len(self.results) if self.results else 0.0

    def _latency(self, latency_ns: int) -> None:
        self.latencies.append(latency_ns)
        if len(self.latencies) == self.window.latency:
            p50, p99 = np.percentile(np.array(self.latencies), (50.0, 99.0), method="higher")
            self.latencies = []
            for kept, value in ((self.p50s, p50), (self.p99s, p99)):
                kept.append(int(value))
                if len(kept) > self.window.latencies_kept:
                    kept.popleft()

    def _fault(self, prediction: Sequence[float]) -> bool:
        """Whether the answer is one; the first of each kind is kept."""
        for i, value in enumerate(prediction):
            if not math.isfinite(value):
                self.not_finite = self.not_finite or Fault(value=value, where=f"prediction[{i}]", limit=0.0)
                return True
        if self.ranges and len(prediction) != len(self.ranges):
            self.out_of_range = self.out_of_range or Fault(
                value=float(len(prediction)), where="the number of values", limit=float(len(self.ranges))
            )
            return True
        for i, (value, allowed) in enumerate(zip(prediction, self.ranges, strict=False)):
            if not allowed.holds(value):
                low = allowed.minimum is not None and value < allowed.minimum
                limit = allowed.minimum if low else allowed.maximum
                assert limit is not None
                self.out_of_range = self.out_of_range or Fault(value=value, where=f"prediction[{i}]", limit=limit)
                return True
        return False

    def _result(self, *, failed: bool) -> None:
        self.requests += 1
        self.last_ok = not failed
        self.failures += failed
        self.in_a_row = self.in_a_row + 1 if failed else 0
        self.results.append(failed)
        self.failed_lately += failed
        if len(self.results) > self.window.errors:
            self.failed_lately -= self.results.popleft()


LARGEST_LOSS = -math.log(SMALLEST)  # of a probability; also the bound of squared errors that are compared
