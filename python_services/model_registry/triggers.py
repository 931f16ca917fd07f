"""When a version is a danger: limits held against what its monitor says. Pure.

Hard triggers are faults that no version may have; soft ones are judgements about how well it does. What follows from
either is decided in deciding.py. Values are those of the design, docs/rollout.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alphamesh.model.v1 import model_pb2

from . import drift
from .monitor import Monitor, Sample
from .sequential import PairedTest

Trigger = model_pb2.Alert.Trigger
HARD = frozenset(
    {
        model_pb2.Alert.TRIGGER_ARTIFACT,
        model_pb2.Alert.TRIGGER_LOAD,
        model_pb2.Alert.TRIGGER_GOLDEN_ROWS,
        model_pb2.Alert.TRIGGER_NOT_FINITE,
        model_pb2.Alert.TRIGGER_OUT_OF_RANGE,
        model_pb2.Alert.TRIGGER_ERROR_RATE,
        model_pb2.Alert.TRIGGER_ERRORS_IN_A_ROW,
        model_pb2.Alert.TRIGGER_LATENCY,
    }
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a version may do. Shares are parts of 1, times nanoseconds.

    error_rate, error_requests   failed share of the latest requests, judged from so many on
    errors_in_a_row              that many failures, one after the other
    p99_ns, p99_windows          objective; past it and twice the champion's in so many windows in a row
    psi, psi_count               of predictions and features, judged from so many on
    drawdown                     fall of the summed returns of its answers from their highest
    evidence                     of being worse than the champion (1/alpha)
    """

    error_rate: float
    p99_ns: int
    error_requests: int = 200
    errors_in_a_row: int = 3
    p99_windows: int = 3
    psi: float = 0.2
    psi_count: int = 250
    drawdown: float = 0.1
    evidence: float = 20.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One trigger that was hit."""

    trigger: int
    measured: float
    limit: float
    count: int
    detail: str

    @property
    def hard(self) -> bool:
        """Whether it is a fault, not a judgement."""
        return self.trigger in HARD


def judge(own: Monitor, champion: Monitor | None, test: PairedTest | None, limits: Limits) -> Iterator[Finding]:
    """Everything wrong with a version now. `champion` and `test` are None for the champion itself."""
    yield from _faults(own)
    yield from _errors(own, limits)
    yield from _latency(own, champion, limits)
    yield from _losses(own, test, limits)
    yield from _drift(own, champion, limits)


def _faults(own: Monitor) -> Iterator[Finding]:
    for trigger, fault in (
        (Trigger.TRIGGER_NOT_FINITE, own.not_finite),
        (Trigger.TRIGGER_OUT_OF_RANGE, own.out_of_range),
    ):
        if fault is not None:
            detail = f"{fault.where} is {fault.value:g}"
            yield Finding(trigger=trigger, measured=fault.value, limit=fault.limit, count=own.requests, detail=detail)


def _errors(own: Monitor, limits: Limits) -> Iterator[Finding]:
    seen = len(own.results)
    if own.in_a_row >= limits.errors_in_a_row:
        yield Finding(
            trigger=Trigger.TRIGGER_ERRORS_IN_A_ROW,
            measured=own.in_a_row,
            limit=limits.errors_in_a_row,
            count=own.requests,
            detail=f"{own.in_a_row} requests in a row failed",
        )
    if seen >= limits.error_requests and own.failed_lately and own.error_rate >= limits.error_rate:
        yield Finding(
            trigger=Trigger.TRIGGER_ERROR_RATE,
            measured=own.error_rate,
            limit=limits.error_rate,
            count=seen,
            detail=f"{own.failed_lately} of the latest {seen} requests failed",
        )


def _latency(own: Monitor, champion: Monitor | None, limits: Limits) -> Iterator[Finding]:
    limit = limits.p99_ns
    if champion is not None and champion.p99s:
        limit = max(limit, 2 * champion.p99s[-1])
    windows = list(own.p99s)[-limits.p99_windows :]
    if len(windows) == limits.p99_windows and min(windows) > limit:
        yield Finding(
            trigger=Trigger.TRIGGER_LATENCY,
            measured=windows[-1],
            limit=limit,
            count=limits.p99_windows * own.window.latency,
            detail=f"the 99th percentile was above {limit / 1e6:.1f} ms in {limits.p99_windows} windows in a row",
        )


def _losses(own: Monitor, test: PairedTest | None, limits: Limits) -> Iterator[Finding]:
    losses = own.losses
    if test is not None and test.advantage is not None and test.worse.evidence >= limits.evidence:
        yield Finding(
            trigger=Trigger.TRIGGER_WORSE_THAN_CHAMPION,
            measured=test.worse.evidence,
            limit=limits.evidence,
            count=test.pairs,
            detail=f"its loss is higher by {-test.advantage:.4f} on the same {test.pairs} questions",
        )
    if own.rise is not None:
        before, now = own.rise
        yield Finding(
            trigger=Trigger.TRIGGER_LOSS_DRIFT,
            measured=now,
            limit=before,
            count=losses.count,
            detail=f"its mean loss rose from {before:.4f} to {now:.4f}",
        )
    if losses.drawdown > limits.drawdown:
        yield Finding(
            trigger=Trigger.TRIGGER_DRAWDOWN,
            measured=losses.drawdown,
            limit=limits.drawdown,
            count=losses.returns,
            detail=f"what its answers made fell by {losses.drawdown:.2%} from its highest",
        )


def _drift(own: Monitor, champion: Monitor | None, limits: Limits) -> Iterator[Finding]:
    moved = shifted(own.predictions, limits)
    # When the champion's predictions moved as well, the market did.
    if moved is not None and (champion is None or shifted(champion.predictions, limits) is None):
        yield Finding(
            trigger=Trigger.TRIGGER_PREDICTION_DRIFT,
            measured=moved.measured,
            limit=moved.limit,
            count=len(own.predictions.latest),
            detail="its predictions have another distribution than its first ones",
        )
    worst = None if own.features is None else shifted(own.features, limits)
    if own.features is not None and worst is not None:
        yield Finding(
            trigger=Trigger.TRIGGER_FEATURE_DRIFT,
            measured=worst.measured,
            limit=worst.limit,
            count=len(own.features.latest),
            detail=f"feature {worst.column} has another distribution than at first",
        )


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A column whose latest numbers are from another distribution: its index, its PSI, and the limit of that."""

    column: int
    measured: float
    limit: float


def shifted(sample: Sample, limits: Limits) -> Shift | None:
    """The column that moved most: the stability index and Kolmogorov-Smirnov both have to say so.

    So many tests are made at once that each is held to its share of the chance (Bonferroni).
    """
    measured, reference, latest = indices(sample, limits), sample.first, sample.latest
    for column in sorted(range(len(measured)), key=lambda column: -measured[column]):
        if measured[column] <= limits.psi:
            return None  # nor is any that follows above its limit
        limit = drift.psi_limit(limits.psi, len(reference), len(latest), int(sample.bins.sizes[column]))
        if measured[column] > limit:
            _, chance = drift.kolmogorov_smirnov(reference[:, column], latest[:, column])
            if chance < drift.BY_CHANCE / len(sample):
                return Shift(column=column, measured=measured[column], limit=limit)
    return None


def indices(sample: Sample, limits: Limits) -> list[float]:
    """Population stability index of each column; empty before there is enough to say."""
    if len(sample.first) < limits.psi_count or len(sample.latest) < limits.psi_count:
        return []
    return [float(measured) for measured in sample.bins.psi(sample.latest)]
