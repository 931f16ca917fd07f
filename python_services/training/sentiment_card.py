"""What headline_sentiment's card says, and how its figures are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cards import Card
from .encoder_head import CLASSES

# Written for this project: what every served copy must answer as the card's version did.
SENTENCES = (
    "Shares jump after the company raises its full-year outlook",
    "Chipmaker beats estimates on record data centre sales",
    "Retailer cuts guidance as demand weakens, stock tumbles",
    "Bank downgraded to sell on rising loan losses",
    "Board appoints new chief financial officer",
    "Company will publish quarterly results on 24 October",
    "Profit falls for a third quarter; dividend suspended",
    "Analysts upgrade the airline, see higher margins next year",
    "Central bank leaves its interest rate unchanged",
    "Oil slides to its lowest price in four months",
    "Drug maker wins approval for a new treatment, shares surge",
    "Regulator opens a probe into the firm's accounts",
    "$XYZ price target raised to $120 from $95",
    "Annual meeting of shareholders held in Chicago",
    "Stocks end the week higher as inflation cools https://example.com/a",
    "Carmaker recalls 200,000 vehicles over a brake defect",
)
BINS = 15


def figures(
    probability: NDArray[Any], label: NDArray[np.int64], decision: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Accuracy, macro-F1, log-loss, Brier score, calibration error; precision, recall and F1 of each class.

    The answer is the class with the largest probability, weighted by `decision` [3] where it is given.
    """
    from sklearn.metrics import precision_recall_fscore_support

    said = (probability if decision is None else probability * decision).argmax(axis=1)
    row = np.arange(len(label))
    p = probability.astype(np.float64)
    precision, recall, f1, _ = precision_recall_fscore_support(
        label, said, labels=range(len(CLASSES)), zero_division=0.0
    )
    confidence, right = p.max(axis=1), said == label
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    error = sum(
        abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)
    )
    found = {
        "accuracy": float(right.mean()),
        "macro_f1": float(f1.mean()),
        "log_loss": float(-np.log(np.maximum(p[row, label], 1e-12)).mean()),
        "brier": float(((p - np.eye(len(CLASSES))[label]) ** 2).sum(axis=1).mean()),
        "ece": float(error),
    }
    for i, name in enumerate(CLASSES):
        found |= {
            f"{name}_precision": float(precision[i]),
            f"{name}_recall": float(recall[i]),
            f"{name}_f1": float(f1[i]),
        }
    return found


def card(
    *,
    seed: int,
    data: Mapping[str, Any],
    metrics: Mapping[str, float],
    labels: NDArray[np.int64],
    decision: NDArray[np.float64],
    parameters: Mapping[str, Any],
    onnx_difference: float,
) -> Card:
    """The card; `metrics` are of the served int8 model on unseen rows, the naive answer is the classes' shares."""
    import onnx
    import onnxruntime
    import sklearn

    shares = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    naive = figures(np.tile(shares, (len(labels), 1)), labels)
    best = max(metrics["macro_f1"], metrics["decided_macro_f1"])
    target = "reaches" if best >= 0.80 else "misses"
    return Card(
        model_id="headline_sentiment",
        title="Sentiment of a financial headline",
        purpose="Probabilities that a headline is bearish, bullish or neutral, in this order, as its readers would say",
        engine="all-MiniLM-L6-v2 (frozen, int8) with a blended head",
        engine_version=f"scikit-learn {sklearn.__version__}",
        seed=seed,
        data=data,
        label={"classes": list(CLASSES), "given_by": "the data set's annotators"},
        evaluation={
            "method": (
                "repeats dropped; split 70/15/15 within each class by the sha256 of the token ids; strengths, blend "
                "and temperature chosen on the second part; then fitted on the first two, judged once on the third"
            ),
            "unseen": "unseen_rows.txt names the third part: the first 16 hex digits of each row's sha256",
            "calibration": "ECE over 15 bins of the top probability; Brier score summed over classes",
            "decided_*": "probabilities times decision_weights (chosen on the second part) before the largest is taken",
            "naive": "each class with its share",
            "int8": "activation scales are fixed, so a row's answer does not depend on the rows beside it",
        },
        metrics=metrics,
        baseline={name: naive[name] for name in ("accuracy", "macro_f1", "log_loss", "brier", "ece")},
        limits=(
            f"It {target} the target of macro-F1 0.80 on unseen rows: {metrics['macro_f1']:.3f} by the largest "
            f"probability, {metrics['decided_macro_f1']:.3f} with the decision weights. The encoder is frozen; "
            "fitting its last layers, too, is what would gain most.",
            "English tweets of 2018 to 2020 about US markets, two thirds of them neutral: other times, languages and "
            "sources will differ. Bearish texts are found least often.",
            'One sentence at a time: no company is told from another, and "A gains on B\'s loss" has one answer.',
            "Text is cut at 64 tokens; links are dropped, lower case is assumed, all by tokenizer.json.",
            "Golden rows have a tolerance of 0.02: on another processor a float's last bit can move an int8 step.",
            "trained_until_ns is 0 because the texts carry no dates; their time is 2018 to 2020, so a session before "
            "2021 that uses this model knows words from its future.",
        ),
        inputs=(
            {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]},
            {"name": "attention_mask", "datatype": "INT64", "shape": [-1, -1]},
        ),
        outputs=({"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},),
        trained_until_ns=0,
        onnx_difference=onnx_difference,
        parameters={**parameters, "decision_weights": decision.tolist()},
        licence="head: Apache-2.0; encoder: Apache-2.0 (sentence-transformers), packaged under MIT (LICENSE.encoder)",
        libraries={
            "numpy": np.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "scikit-learn": sklearn.__version__,
        },
    )
