"""fundamental_quality: how much a company is expected to earn on its assets over the next four quarters.

Data: the bundled facts of 22 companies, as the SEC published them. Trained on what was filed by `trained_until`, with
every label filed by then as well; judged on every later filing of the companies whose facts go on, first for the model
as shipped, then walk-forward with a new fit each year. Naive answer: the company earns what it earned.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..cards import Card
from ..errors import TrainingError
from ..facts import BUNDLED, bundled
from ..facts_ratios import FEATURES
from ..fundamental_fit import (
    RETURN,
    Floats,
    Linear,
    Rows,
    choose_penalty,
    fit,
    judge,
    later_rows,
    midnight_ns,
    training_rows,
    walk_forward,
)
from . import Golden, TrainContext, Trained

INPUT, OUTPUT = "features", "score"
TRAINED_UNTIL = "2010-04-01"
FEWEST_ROWS = 10
OPSET, IR_VERSION = 15, 8


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
            until_ns = midnight_ns(day)
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
            "source": "python_services/market_data/bundled/sec_facts.csv.gz, from the SEC, public domain",
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


def _day(moment_ns: int) -> str:
    return datetime.fromtimestamp(moment_ns // 10**9, UTC).date().isoformat()


RECIPE = FundamentalQuality()

if __name__ == "__main__":
    from ._command import main

    sys.exit(main(RECIPE, trained_until="last day of filings, YYYY-MM-DD"))
