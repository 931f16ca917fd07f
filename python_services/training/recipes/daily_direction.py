"""daily_direction: will the close be higher in five bars, and how far may it move.

Data: feature set `daily_technical` and adjusted closes, of the demo universe, known five bars before the demo session
begins. Judged three times: combinatorial purged cross-validation, walk-forward, and a holdout at the end of the range
that nothing was fitted or chosen on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any, Literal

import numpy as np

from .. import engines, labels, splits
from ..cards import Card
from ..dataset import Dataset
from ..errors import TrainingError
from ..fitting import Floats, Judged, Model, Plan, Rows, Task, figures, fit, judge, naive_figures
from . import Golden, TrainContext, Trained

FEATURE_SET = "daily_technical"
GOLDEN_ROWS = 8
LIBRARIES = ("lightgbm", "numpy", "onnx", "onnxmltools", "onnxruntime", "scikit-learn")


@dataclass(frozen=True, kw_only=True)
class _Study:
    """Complete rows, and where the holdout begins."""

    data: Dataset
    rows: Rows
    plan: Plan
    develop: Rows  # what may be fitted on: no label of it reaches into the holdout or its embargo
    holdout: Rows
    develop_bars: int
    folds: Mapping[str, int]


class DailyDirection:
    """See the module."""

    model_id = "daily_direction"
    title = "Direction and volatility of the next five daily bars"
    reads: Literal["market"] = "market"

    def defaults(self) -> Mapping[str, Any]:
        """The shipped version. `feature_set` is resolved to its version, the data set to its hash, by who asks."""
        return {
            "model_id": self.model_id,
            "engine": "gradient_boosting",
            "parameters": {},
            "seed": 7,
            "data": {
                "feature_set": FEATURE_SET,
                "instrument_ids": ["AAPL", "GOOG", "IBM", "MSFT"],
                "start_ns": _midnight(2000, 3, 1),
                # The demo session begins on 2009-07-01; the five bars before it are the embargo.
                "end_ns": _midnight(2009, 6, 24),
                "known_at_ns": _midnight(2009, 6, 24),
            },
            "label": {"kind": "FORWARD_RETURN", "horizon_bars": 5},
            "cross_validation": {"groups": 6, "test_groups": 2, "embargo_bars": 5},
        }

    def train(self, context: TrainContext) -> Trained:
        """See Recipe."""
        from .. import export, search

        study = _prepare(Dataset.load(context.folder), context)
        settings = study.plan.parameters
        trials, folds = settings["trials"], study.folds
        checks = splits.count(folds["groups"], folds["test_groups"])
        total, done = trials + checks + settings["walk_forward_folds"] + 2, trials
        plan, groups = study.plan, folds["groups"]
        if trials:
            plan = search.best(
                study.develop, study.develop_bars, plan, groups, trials, context.executor,
                lambda number: context.progress(number, total, "search"),
            )  # fmt: skip
        context.progress(done, total, "cross-validation")
        crossed = []
        cross = splits.combinatorial(
            study.develop.bar, study.develop_bars, groups, folds["test_groups"], plan.horizon, plan.embargo
        )
        for result in context.executor.map(judge, [Task(rows=study.develop, split=each, plan=plan) for each in cross]):
            crossed.append(result)
            done += 1
            context.report_fold(_fold(result))
            context.progress(done, total, "cross-validation")
        walked: list[Judged] = []
        forward = splits.walk_forward(
            study.develop.bar, study.develop_bars, settings["walk_forward_folds"], settings["minimum_train_bars"],
            plan.horizon, plan.embargo,
        )  # fmt: skip
        ahead = [Task(rows=study.develop, split=each, plan=plan) for each in forward]
        for result in context.executor.map(judge, ahead):
            walked.append(result)
            done += 1
            context.progress(done, total, "walk-forward")
        model = fit(study.develop, plan)
        context.progress(done + 1, total, "export")
        content = export.to_onnx(model, len(study.data.names))
        largest = export.difference(content, model, study.holdout.features)
        trained = _result(study, plan, model, content, largest, crossed, walked)
        context.progress(total, total, "done")
        return trained


def complete_rows(data: Dataset, kind: str, horizon: int) -> Rows:
    """Rows with every feature and every label, by bar, then instrument."""
    at = (data.bar, data.instrument)
    parts = {
        "up": labels.is_up(kind, data.close, horizon)[at],
        "ahead": labels.forward_return(data.close, horizon)[at],
        "variance": np.maximum(labels.forward_variance(data.close, horizon)[at], 1e-8),
        "naive": np.maximum(labels.trailing_variance(data.close, horizon)[at], 1e-8),
    }
    features = data.features.astype(np.float32)
    whole = np.isfinite(features).all(axis=1)
    for values in parts.values():
        whole &= np.isfinite(values)
    order = np.flatnonzero(whole)
    order = order[np.lexsort((data.instrument[order], data.bar[order]))]
    return Rows(features=features[order], bar=data.bar[order], **{name: each[order] for name, each in parts.items()})


def _prepare(data: Dataset, context: TrainContext) -> _Study:
    spec = context.settings
    kind, horizon = spec["label"]["kind"], int(spec["label"]["horizon_bars"])
    folds = spec["cross_validation"]
    plan = Plan(
        engine=spec["engine"],
        parameters=engines.parameters(spec["engine"], spec["parameters"]),
        seed=context.seed,
        horizon=horizon,
        embargo=int(folds["embargo_bars"]),
    )
    try:
        rows = complete_rows(data, kind, horizon)
    except ValueError as error:
        raise TrainingError("LABEL_UNKNOWN", f"label.kind: {error}") from error
    if not len(rows):
        raise TrainingError("DATA_TOO_SHORT", "no row has every feature and a label; begin earlier or end later")
    # Bars are counted from the first complete row, so that groups are of bars with something in them.
    first = int(rows.bar.min())
    rows = replace(rows, bar=rows.bar - first)
    bars = len(data.close_ns) - first
    holdout_from = bars - int(plan.parameters["holdout_bars"])
    develop_bars = holdout_from - horizon - plan.embargo
    needed = int(plan.parameters["minimum_train_bars"]) + int(plan.parameters["walk_forward_folds"])
    if develop_bars < needed:
        raise TrainingError(
            "DATA_TOO_SHORT",
            f"{bars} bars have complete rows; with a holdout of {plan.parameters['holdout_bars']} bars that leaves "
            f"{max(develop_bars, 0)}, and at least {needed} are needed; widen the range or lower minimum_train_bars",
        )
    chosen = np.flatnonzero(rows.bar < develop_bars)
    held_out = rows.take(np.flatnonzero(rows.bar >= holdout_from))
    if not len(held_out):
        raise TrainingError("DATA_TOO_SHORT", "the holdout has no complete row; raise holdout_bars above the horizon")
    return _Study(
        data=data,
        rows=rows,
        plan=plan,
        develop=rows.take(chosen),
        holdout=held_out,
        develop_bars=develop_bars,
        folds={name: int(folds[name]) for name in ("groups", "test_groups")},
    )


def _result(
    study: _Study, plan: Plan, model: Model, content: bytes, largest: float, crossed: list[Judged], walked: list[Judged]
) -> Trained:
    from .. import export

    probability, volatility = export.run(content, study.holdout.features)
    base_rate = float(study.develop.up.mean())
    walked_rows = study.develop.take(np.concatenate([each.split.test for each in walked]))
    rates = np.concatenate([np.full(len(each.split.test), each.base_rate) for each in walked])
    found = {
        "holdout": (figures(study.holdout, probability, volatility), naive_figures(study.holdout, base_rate)),
        "walk_forward": (
            figures(walked_rows, _joined(walked, "probability"), _joined(walked, "deviation")),
            naive_figures(walked_rows, rates),
        ),
        "cross_validation": (_mean([each.metrics for each in crossed]), _mean([each.baseline for each in crossed])),
    }
    data, close_ns = study.data, study.data.close_ns
    first = len(close_ns) - (study.develop_bars + plan.horizon + plan.embargo + int(plan.parameters["holdout_bars"]))
    last_used = int(close_ns[first + int(study.develop.bar.max()) + plan.horizon])
    golden_inputs = study.holdout.features[np.linspace(0, len(study.holdout) - 1, GOLDEN_ROWS).astype(np.intp)]
    golden = export.run(content, golden_inputs)
    card = Card(
        model_id=DailyDirection.model_id,
        title=DailyDirection.title,
        purpose=(
            "Gives, for one instrument at one close, the probability that the adjusted close is higher "
            f"{plan.horizon} bars later, and the standard deviation of the simple return until then."
        ),
        engine=plan.engine,
        engine_version=engines.describe(plan.engine).version,
        parameters=dict(plan.parameters),
        seed=plan.seed,
        data={
            "source": "market_data snapshot and feature_store rows, gathered by the training service",
            "sha256": data.sha256(),
            "first_close": _iso(int(close_ns[first])),
            "last_close_trained_on": _iso(last_used),
            "holdout_first_close": _iso(int(close_ns[first + int(study.holdout.bar.min())])),
            "holdout_last_label": _iso(int(close_ns[first + int(study.holdout.bar.max()) + plan.horizon])),
            "rows": len(study.rows),
            "rows_trained_on": len(study.develop),
            "rows_held_out": len(study.holdout),
        },
        label={"up": f"forward return over {plan.horizon} bars, adjusted closes", "horizon_bars": plan.horizon},
        evaluation={
            "holdout": f"the last {plan.parameters['holdout_bars']} bars, predicted by the shipped file itself",
            "walk_forward": f"{len(walked)} tests in time order, each model fitted only on what was known before",
            "cross_validation": (
                f"{len(crossed)} paths: {study.folds['groups']} groups, {study.folds['test_groups']} tested at a time, "
                f"purged by {plan.horizon} bars, embargo {plan.embargo} bars; means over the paths"
            ),
            "naive": "the base rate of the training rows; the deviation of the last 20 returns",
        },
        metrics={f"{how}.{name}": value for how, (own, _) in found.items() for name, value in own.items()},
        baseline={f"{how}.{name}": value for how, (_, naive) in found.items() for name, value in naive.items()},
        limits=_limits(data, study, found["walk_forward"]),
        inputs=[{"name": export.INPUT, "datatype": "FP32", "shape": [-1, len(data.names)]}],
        outputs=[
            {"name": export.PROBABILITY, "datatype": "FP32", "shape": [-1, 1], "minimum": 0.0, "maximum": 1.0},
            {"name": export.VOLATILITY, "datatype": "FP32", "shape": [-1, 1], "minimum": 0.0},
        ],
        trained_until_ns=last_used,
        onnx_difference=largest,
        features=list(data.names),
        libraries={name: metadata.version(name) for name in LIBRARIES},
    )
    return Trained(
        onnx_bytes=content,
        card=card,
        golden=Golden(
            inputs={export.INPUT: golden_inputs},
            outputs={
                name: values.astype(np.float32)[:, None]
                for name, values in zip((export.PROBABILITY, export.VOLATILITY), golden, strict=True)
            },
        ),
        fold_metrics=tuple(_fold(each) for each in crossed),
    )


def _limits(data: Dataset, study: _Study, walked: tuple[Mapping[str, float], Mapping[str, float]]) -> list[str]:
    own, naive = walked
    edge = naive["log_loss"] - own["log_loss"]
    verdict = "beats" if edge > 0.0 else "does not beat"
    return [
        f"Direction: walk-forward it {verdict} the base rate's log loss ({own['log_loss']:.4f} against "
        f"{naive['log_loss']:.4f}). Labels of neighbouring bars overlap and instruments move together, so differences "
        "of this size are within what chance does; do not bet on the direction alone.",
        "Volatility is the part with skill; it is of simple returns over the horizon, gaps included.",
        f"Trained on {data.close.shape[1]} large US technology shares that exist to this day: survivors. Nothing is "
        "known of other markets, small companies or other bar lengths.",
        "A row with a missing feature has no answer: whoever serves the model abstains.",
        "Trained once; regimes change. Its drift is to be watched, and it is to be trained again.",
    ]


def _fold(result: Judged) -> dict[str, Any]:
    return {
        "test_groups": list(result.split.test_groups),
        "train_rows": len(result.split.train),
        "purged_rows": result.split.purged,
        "test_rows": len(result.split.test),
        "metrics": dict(result.metrics),
    }


def _mean(every: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = [name for name in every[0] if all(name in each for each in every)]
    return {name: float(np.mean([each[name] for each in every])) for name in names}


def _joined(results: Sequence[Judged], name: str) -> Floats:
    return np.concatenate([getattr(each, name) for each in results])


def _midnight(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * 10**9


def _iso(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).date().isoformat()


RECIPE = DailyDirection()
