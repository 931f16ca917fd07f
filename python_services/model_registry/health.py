"""What a monitor knows, as a message; what was not computed is absent."""

from __future__ import annotations

from alphamesh.model.v1 import model_pb2

from . import deciding, triggers
from .config import Rollouts
from .state import Model


def message(model: Model, number: int, rollouts: Rollouts, loaded: bool | None) -> model_pb2.ModelHealth:
    """Of one version since it reached its stage."""
    version = model.versions[number]
    monitor, losses, test = version.monitor, version.monitor.losses, version.test
    found = model_pb2.ModelHealth(
        model_id=model.model_id,
        version=number,
        stage=version.message.stage,
        requests=monitor.requests,
        failures=monitor.failures,
        outcomes=losses.count,
        loaded=loaded,
    )
    if monitor.p99s:
        found.p50_latency_ns, found.p99_latency_ns = monitor.p50s[-1], monitor.p99s[-1]
    if losses.count:
        found.mean_loss = losses.loss / losses.count
        if monitor.probability:
            found.brier_score = losses.brier / losses.count
    for name, value in (
        ("calibration_error", losses.calibration_error if monitor.probability else None),
        ("information_coefficient", losses.information_coefficient),
    ):
        if value is not None:
            setattr(found, name, value)
    if losses.returns:
        found.realized_return, found.drawdown = losses.realized, losses.drawdown
    for index in triggers.indices(monitor.predictions, deciding.limits(model, rollouts)):
        found.prediction_psi = index
    if test is not None and test.advantage is not None:
        found.pairs = test.pairs
        found.loss_advantage = test.advantage
        found.better_evidence, found.worse_evidence = test.better.evidence, test.worse.evidence
    return found
