"""fundamental_quality: how much a company is expected to earn on its assets over the next four quarters.

Data: the bundled facts of 22 companies, as the SEC published them. Trained on what was filed by `trained_until`, with
every label filed by then as well; judged on every later filing of the companies whose facts go on, first for the model
as shipped, then walk-forward with a new fit each year. Naive answer: the company earns what it earned.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..cards import Card
from ..errors import TrainingError
from ..facts import BUNDLED, CompanyFacts, bundled
from ..facts_ratios import FEATURES, following_return, newest_ratios, ratios
from . import Golden, TrainContext, Trained

INPUT, OUTPUT = "features", "score"
TRAINED_UNTIL = "2010-04-01"
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
FEWEST_ROWS = 10
OPSET, IR_VERSION = 15, 8
RETURN = FEATURES.index("return_on_assets")
Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """features [n, FEATURES]; target [n]: income of the four quarters after, on assets; known_at_ns [n]."""

    instrument: NDArray[np.str_]
    end: NDArray[np.str_]
    features: Floats
    target: Floats
    known_at_ns: NDArray[np.int64]

    def take(self, mask: NDArray[np.bool_]) -> Rows:
        """The rows that the mask keeps."""
        return Rows(**{name: values[mask] for name, values in vars(self).items()})


@dataclass(frozen=True, kw_only=True)
class Linear:
    """score = features @ weight + bias."""

    weight: Floats
    bias: float

    def predict(self, features: Floats) -> Floats:
        """[n, FEATURES] to [n]."""
        return features @ self.weight + self.bias


def training_rows(facts: CompanyFacts, until_ns: int) -> Rows:
    """Every year that was over, features and outcome, as it stood in the filings at `until_ns`.

    Early years are comparatives of the first electronic filings, so they are as reported a year later.
    """
    found = []
    for name in facts.instrument_ids:
        view = facts.as_of(name, until_ns)
        for end in view.period_ends():
            row, target = ratios(name, view, end), following_return(view, end)
            if row is not None and target is not None:
                found.append((name, end, row.values, target, until_ns))
    return _rows(found)


def later_rows(facts: CompanyFacts, after_ns: int) -> Rows:
    """Each balance sheet filed after `after_ns`: the ratios of that moment and what followed, where it is known."""
    found = []
    for name in facts.instrument_ids:
        times = facts.filing_times(name)
        newest, seen = facts.as_of(name, times[-1]), set()
        for moment in times:
            row = newest_ratios(facts, name, moment)
            if row is None or row.end in seen:
                continue
            seen.add(row.end)
            target = following_return(newest, row.end)
            if moment > after_ns and target is not None:
                found.append((name, row.end, row.values, target, moment))
    return _rows(sorted(found, key=lambda each: (each[4], each[0])))


def fit(rows: Rows, penalty: float) -> Linear:
    """Ridge regression of the change of profitability on the ratios: the more penalty, the nearer to "as it was"."""
    from sklearn.linear_model import Ridge

    mean, deviation = rows.features.mean(axis=0), rows.features.std(axis=0) + 1e-9
    change = rows.target - rows.features[:, RETURN]
    ridge = Ridge(alpha=penalty).fit((rows.features - mean) / deviation, change)
    weight = ridge.coef_ / deviation
    bias = float(ridge.intercept_ - mean @ weight)
    return Linear(weight=weight + np.eye(len(FEATURES))[RETURN], bias=bias)


def choose_penalty(rows: Rows) -> float:
    """The penalty with the least squared error on companies left out, one at a time."""
    penalties, errors = np.array(PENALTIES), np.zeros(len(PENALTIES))
    change = rows.target - rows.features[:, RETURN]
    for name in np.unique(rows.instrument):
        out = rows.instrument == name
        x, y = rows.features[~out], change[~out]
        mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-9
        # One decomposition gives the regressions of all penalties.
        u, s, v = np.linalg.svd((x - mean) / deviation, full_matrices=False)
        weights = v.T @ ((s / (s**2 + penalties[:, None])) * (u.T @ (y - y.mean()))).T
        predicted = ((rows.features[out] - mean) / deviation) @ weights + y.mean()
        errors += ((predicted - change[out][:, None]) ** 2).sum(axis=0)
    return PENALTIES[int(errors.argmin())]


def judge(predicted: Floats, rows: Rows) -> dict[str, float]:
    """Errors in units of return on assets, and how well companies and times are ordered."""
    from scipy.stats import spearmanr

    error = predicted - rows.target
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "median_absolute_error": float(np.median(np.abs(error))),
        "rank_correlation": float(spearmanr(predicted, rows.target).statistic),
    }


def walk_forward(facts: CompanyFacts, rows: Rows, first_year: int) -> tuple[Floats, Rows]:
    """Predictions of rows filed from `first_year` on, each by a model fitted on what was known as its year began."""
    year_of = np.array([datetime.fromtimestamp(each // 10**9, UTC).year for each in rows.known_at_ns])
    predicted = np.empty(len(rows.target))
    for year in range(first_year, int(year_of.max()) + 1):
        now = year_of == year
        if now.any():
            known = training_rows(facts, _midnight(f"{year}-01-01"))
            predicted[now] = fit(known, choose_penalty(known)).predict(rows.features[now])
    later = year_of >= first_year
    return predicted[later], rows.take(later)


def to_onnx(model: Linear) -> bytes:
    """features FP32 [rows, FEATURES] to score FP32 [rows, 1]."""
    from onnx import TensorProto, checker, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("Gemm", [INPUT, "weight", "bias"], [OUTPUT], name="linear")],
        "fundamental_quality",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(FEATURES)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", 1])],
        [
            numpy_helper.from_array(model.weight.astype(np.float32)[:, None], "weight"),
            numpy_helper.from_array(np.array([model.bias], np.float32), "bias"),
        ],
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="alphamesh"
    )
    checker.check_model(made)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def run_onnx(content: bytes, features: Floats) -> Floats:
    """The exported model's score of each row."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    score: NDArray[np.float32] = session.run([OUTPUT], {INPUT: features.astype(np.float32)})[0]
    return score[:, 0].astype(np.float64)


class FundamentalQuality:
    """See the module."""

    model_id = "fundamental_quality"
    title = "Profitability of the next four quarters from filed accounts"
    reads: Literal["market", "files"] = "files"

    def defaults(self) -> Mapping[str, Any]:
        """The shipped version: what was filed before the last quarter of the demo session."""
        return {"model_id": self.model_id, "seed": 7, "parameters": {"trained_until": TRAINED_UNTIL}}

    def train(self, context: TrainContext) -> Trained:
        """See Recipe. Parameter `trained_until`: a day (UTC) as YYYY-MM-DD."""
        day = str(context.settings.get("parameters", {}).get("trained_until", TRAINED_UNTIL))
        try:
            until_ns = _midnight(day)
        except ValueError:
            raise TrainingError("PARAMETER_INVALID", f"trained_until is {day!r}; give a day as YYYY-MM-DD") from None
        facts = bundled()
        rows, later = training_rows(facts, until_ns), later_rows(facts, until_ns)
        if len(rows.target) < FEWEST_ROWS or not len(later.target):
            raise TrainingError(
                "DATA_TOO_SHORT",
                f"by {day} there are {len(rows.target)} years with their outcome and {len(later.target)} filings "
                f"after; {FEWEST_ROWS} and 1 are needed: choose trained_until between 2010-04-01 and 2025-01-01",
            )
        context.progress(0, 3, "fit")
        penalty = choose_penalty(rows)
        model = fit(rows, penalty)
        context.progress(1, 3, "walk-forward")
        first_year = datetime.fromtimestamp(until_ns // 10**9, UTC).year + 1
        walked, walked_rows = walk_forward(facts, later, first_year)
        context.progress(2, 3, "export")
        content = to_onnx(model)
        scores = run_onnx(content, later.features)
        card = _card(context.seed, rows, later, penalty, model, scores, (walked, walked_rows), until_ns)
        if not card.onnx_difference <= 1e-5:
            raise TrainingError("ONNX_DIFFERS", f"the ONNX file differs from the library by {card.onnx_difference:.3g}")
        shown = later.features[:8].astype(np.float32)
        golden = Golden(
            inputs={INPUT: shown},
            outputs={OUTPUT: run_onnx(content, shown.astype(np.float64))[:, None].astype(np.float32)},
        )
        context.progress(3, 3, "done")
        return Trained(onnx_bytes=content, card=card, golden=golden)


def _card(
    seed: int,
    rows: Rows,
    later: Rows,
    penalty: float,
    model: Linear,
    scores: Floats,
    walked: tuple[Floats, Rows],
    until_ns: int,
) -> Card:
    import sklearn

    naive_later, naive_walked = later.features[:, RETURN], walked[1].features[:, RETURN]
    metrics = judge(scores, later) | _prefixed("walk_forward_", judge(*walked))
    baseline = judge(naive_later, later) | _prefixed("walk_forward_", judge(naive_walked, walked[1]))
    return Card(
        model_id=FundamentalQuality.model_id,
        title=FundamentalQuality.title,
        purpose=(
            "The score is the net income expected over the four quarters after the balance sheet, per dollar of that "
            "balance sheet's assets: 0.10 means ten cents. It orders companies by the profitability to come; it is no "
            "forecast of a price"
        ),
        engine="ridge",
        engine_version=f"scikit-learn {sklearn.__version__}",
        seed=seed,
        data={
            "source": "python_services/training/bundled/sec_facts.csv.gz, from the SEC, public domain",
            "sha256": hashlib.sha256(BUNDLED.read_bytes()).hexdigest(),
            "rows": len(rows.target),
            "companies": sorted(set(rows.instrument.tolist())),
            "years_ending": [min(rows.end.tolist()), max(rows.end.tolist())],
        },
        label={
            "kind": "net income of the four quarters after the balance sheet, on its assets",
            "fitted_as": "its change against the last four quarters, so a strong penalty means persistence",
        },
        evaluation={
            "method": (
                "the shipped model, unchanged, on every balance sheet filed after trained_until, ratios as they stood "
                "at that filing; walk_forward_*: fitted anew each January on what was filed by then"
            ),
            "rows": len(later.target),
            "companies": sorted(set(later.instrument.tolist())),
            "filed_from": _day(int(later.known_at_ns.min())),
            "filed_to": _day(int(later.known_at_ns.max())),
            "walk_forward_rows": len(walked[1].target),
            "naive": "the return on assets of the last four quarters",
        },
        metrics=metrics,
        baseline=baseline,
        limits=(
            f"Fitted on {len(rows.target)} company-years, in the shipped version those around the crisis of 2008. "
            "The penalty, chosen on companies left out, leaves hardly more than the naive answer and an intercept.",
            "Judged on the companies whose facts go on after 2010: three large technology companies, alive and "
            "successful in hindsight. Rows overlap (four quarters ahead, every quarter), so they are far fewer than "
            "they look, and nothing here is significant.",
            "Fitted anew each year it is worse than the naive answer on median error: what it learns from two or three "
            "companies does not carry over. Read it as the level of profitability, cleaned, not as a discovery.",
            "Companies without current assets, revenue or cost of sales in their filings (banks, insurers, oil) get no "
            "score; nor does one whose newest balance sheet is more than 200 days old.",
            "Restatements within a fiscal year can mix old and new accounting until the next annual report, as Apple's "
            "of 2010 did.",
            "Use it only for moments after trained_until.",
        ),
        inputs=({"name": INPUT, "datatype": "FP32", "shape": [-1, len(FEATURES)]},),
        outputs=({"name": OUTPUT, "datatype": "FP32", "shape": [-1, 1]},),
        trained_until_ns=until_ns,
        onnx_difference=float(np.abs(scores - model.predict(later.features)).max()),
        parameters={
            "penalty": penalty,
            "weights": {each: round(float(w), 6) for each, w in zip(FEATURES, model.weight, strict=True)},
            "bias": round(model.bias, 6),
        },
        features=FEATURES,
        libraries={"numpy": np.__version__, "scikit-learn": sklearn.__version__},
    )


def _prefixed(prefix: str, figures: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in figures.items()}


def _rows(found: Sequence[tuple[str, date, tuple[float, ...], float, int]]) -> Rows:
    return Rows(
        instrument=np.array([each[0] for each in found], dtype=np.str_),
        end=np.array([each[1].isoformat() for each in found], dtype=np.str_),
        features=np.array([each[2] for each in found], dtype=np.float64).reshape(-1, len(FEATURES)),
        target=np.array([each[3] for each in found], dtype=np.float64),
        known_at_ns=np.array([each[4] for each in found], dtype=np.int64),
    )


def _midnight(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // 10**9, UTC).date().isoformat()


RECIPE = FundamentalQuality()

if __name__ == "__main__":
    from ._command import main

    sys.exit(main(RECIPE, trained_until="last day of filings, YYYY-MM-DD"))
