"""What a monitor makes of observations, and which triggers follow; what follows from them for each stage."""

from __future__ import annotations

import numpy as np
import pytest

from alphamesh.model.v1 import model_pb2
from python_services.model_registry import triggers
from python_services.model_registry.monitor import Monitor, Range, Window
from python_services.model_registry.observations import Answer, Failure, Outcome, Question
from python_services.model_registry.triggers import Limits

A, Obs = model_pb2.Alert, model_pb2.Observation
LIMITS = Limits(error_rate=0.01, p99_ns=20_000_000)


def monitor(**window: int) -> Monitor:
    return Monitor(ranges=(Range(minimum=0.0, maximum=1.0),), probability=True, window=Window(**window))


def question(key: int) -> Question:
    return Question(key=str(key), ts_event_ns=1, rows=np.zeros(1, np.int64))


def answer(key: int, value: float, features: tuple[float, ...] = (), latency_ms: float = 1.0) -> Answer:
    return Answer(
        question=question(key),
        prediction=np.array([[value]]),
        features=np.array([features]) if features else None,
        latency_ns=int(latency_ms * 1e6),
    )


def outcome(key: int, value: float, realized: float | None = None) -> Outcome:
    known = None if realized is None else np.array([realized])
    return Outcome(question=question(key), value=np.array([float(value)]), realized_return=known)


def found(own: Monitor, champion: Monitor | None = None) -> list[int]:
    return [finding.trigger for finding in triggers.judge(own, champion, None, LIMITS)]


def test_a_loss_that_rises_is_found_and_one_that_falls_is_not() -> None:
    rng = np.random.default_rng(8)
    for before, after, expected in ((0.8, 0.1, [A.TRIGGER_LOSS_DRIFT]), (0.1, 0.8, [])):
        own = monitor()
        for i in range(600):
            own.answer(answer(i, before if i < 300 else after))
            own.outcome(outcome(i, rng.random() < 0.8))
        assert [trigger for trigger in found(own) if trigger == A.TRIGGER_LOSS_DRIFT] == expected


def test_a_feature_that_moves_is_found_and_named() -> None:
    rng = np.random.default_rng(9)
    own = monitor(reference=250, current=250)
    for i in range(500):
        own.answer(answer(i, 0.5, (float(rng.normal()), float(rng.normal() + (i >= 250)))))
    (finding,) = triggers.judge(own, None, None, LIMITS)
    assert (finding.trigger, finding.hard) == (A.TRIGGER_FEATURE_DRIFT, False)
    assert "feature 1" in finding.detail
    assert finding.measured > finding.limit


def test_latency_is_held_against_the_champions_when_that_is_slow_too() -> None:
    own, champion = monitor(latency=10), monitor(latency=10)
    for i in range(30):
        own.answer(answer(i, 0.5, latency_ms=50.0))
    assert found(own) == [A.TRIGGER_LATENCY]
    for i in range(10):
        champion.answer(answer(i, 0.5, latency_ms=30.0))
    assert found(own, champion) == []


def test_one_fast_window_among_slow_ones_is_no_alarm() -> None:
    own = monitor(latency=10)
    for i in range(50):
        own.answer(answer(i, 0.5, latency_ms=1.0 if 20 <= i < 30 else 50.0))
        if i == 39:
            assert found(own) == []
    assert found(own) == []


def test_errors_below_the_share_or_too_few_of_them_are_no_alarm() -> None:
    own = monitor()
    for i in range(199):
        if i == 100:
            own.failure(Failure(question=question(i), reason=Obs.REASON_BAD_REPLY), others_answered=True)
        else:
            own.answer(answer(i, 0.5))
    assert found(own) == []
    own.failure(Failure(question=question(i), reason=Obs.REASON_BAD_REPLY), others_answered=True)
    assert found(own) == [A.TRIGGER_ERROR_RATE]


@pytest.mark.parametrize(("reason", "count"), [(Obs.REASON_UNAVAILABLE, 0), (Obs.REASON_DEADLINE, 1)])
def test_only_its_own_faults_count_against_a_version(reason: Obs.Reason.ValueType, count: int) -> None:
    own = monitor()
    own.failure(Failure(question=question(0), reason=reason), others_answered=False)
    assert (own.requests, own.failures) == (1, count)


def test_figures_are_those_of_numpy() -> None:
    rng = np.random.default_rng(10)
    p, y, r = rng.uniform(0.05, 0.95, 200), rng.random(200) < 0.5, rng.normal(0.0, 0.001, 200)
    own = monitor()
    for i in range(200):
        own.answer(answer(i, float(p[i])))
        (loss,) = own.outcome(outcome(i, y[i], r[i]))
        assert loss == pytest.approx(-np.log(p[i] if y[i] else 1 - p[i]))
    assert own.losses.brier / 200 == pytest.approx(np.mean((p - y) ** 2))
    assert own.losses.information_coefficient == pytest.approx(np.corrcoef(p, r)[0, 1])
    path = np.concatenate([[0.0], np.cumsum(r)])
    assert own.losses.drawdown == pytest.approx((np.maximum.accumulate(path) - path).max())
    bins = np.minimum((p * 10).astype(int), 9)
    error = sum(abs(p[bins == b].sum() - y[bins == b].sum()) for b in range(10)) / 200
    assert own.losses.calibration_error == pytest.approx(error)
    assert np.isnan(own.outcome(outcome(0, 1.0)))  # once
