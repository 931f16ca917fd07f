"""Trains the model and writes model.onnx and card.json: ``python -m examples.agents.learned_volatility.train``.

Ordinary least squares on the bundled bars, all instruments pooled: fitted on what was over before 2009, tested from
2009 on. The test's first rows begin five bars later, so that no target of the training reaches into them. Needs the
`train` extra.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
from pathlib import Path

import numpy as np

from python_services.kit.agents import Floats

from .features import LENGTHS, NAMES, range_variance

FOLDER = Path(__file__).parent
BARS = Path(__file__).resolve().parents[3] / "python_services/market_data/bundled/us_equities_daily.csv.gz"
FIRST_TEST_DAY = "2009-01-01"
HORIZON, DECAY = 5, 0.94


def main() -> None:
    """Fits, tests, writes."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LinearRegression

    past, future = [], []
    for days, features, target, naive in instruments():
        before = days < FIRST_TEST_DAY
        cut = int(before.sum())
        fitted = slice(0, max(cut - HORIZON, 0))
        past.append((features[fitted], target[fitted]))
        future.append((features[cut:], target[cut:], naive[cut:]))
    x, y = (np.concatenate(parts) for parts in zip(*past, strict=True))
    model = LinearRegression().fit(x.astype(np.float32), y.astype(np.float32))
    onnx = to_onnx(model, x[:1].astype(np.float32), target_opset=17)
    onnx.graph.input[0].name = "features"
    for node in onnx.graph.node:
        node.input[:] = ["features" if name == "X" else name for name in node.input]
    content = onnx.SerializeToString()
    (FOLDER / "model.onnx").write_bytes(content)
    x_test, y_test, naive = (np.concatenate(parts) for parts in zip(*future, strict=True))
    said = np.exp(model.predict(x_test.astype(np.float32)))
    card = {
        "version": "har-1",
        "sha256": hashlib.sha256(content).hexdigest(),
        "features": list(NAMES),
        "target": "log of the square root of the sum of five daily range variances",
        "data": {"file": BARS.name, "sha256": hashlib.sha256(BARS.read_bytes()).hexdigest()},
        "trained_on": {"rows": len(y), "until": f"before {FIRST_TEST_DAY}"},
        "coefficients": {"intercept": float(model.intercept_), **dict(zip(NAMES, model.coef_.tolist(), strict=True))},
        "test": {
            "rows": len(y_test),
            "from": FIRST_TEST_DAY,
            "qlike": qlike(said, np.exp(y_test)),
            "qlike_of_exponential_average": qlike(naive, np.exp(y_test)),
        },
        "limits": "Five large survivors; the range misses what happens overnight, so it is low for stocks that gap.",
    }
    (FOLDER / "card.json").write_text(json.dumps(card, indent=1) + "\n")
    print(json.dumps(card["test"]))


def instruments() -> list[tuple[np.ndarray, Floats, Floats, Floats]]:
    """Of each: days, features, log of the realised volatility of the next five bars, and an exponential average."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    with gzip.open(BARS, "rt") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["Ticker"], []).append((row["Date"], float(row["High"]), float(row["Low"])))
    return [_one(rows) for _, rows in sorted(found.items()) if len(rows) > 2 * max(LENGTHS)]


def _one(listed: list[tuple[str, float, float]]) -> tuple[np.ndarray, Floats, Floats, Floats]:
    days = np.array([day for day, _, _ in listed])
    variance = range_variance(np.array([high for _, high, _ in listed]), np.array([low for _, _, low in listed]))
    longest = max(LENGTHS)
    sums = np.concatenate([[0.0], np.cumsum(variance)])
    at = np.arange(longest - 1, len(days) - HORIZON)
    features = np.log(np.stack([(sums[at + 1] - sums[at + 1 - length]) / length for length in LENGTHS], axis=1))
    target = 0.5 * np.log(sums[at + 1 + HORIZON] - sums[at + 1])
    average = np.empty(len(variance))
    average[0] = variance[0]
    for i in range(1, len(variance)):
        average[i] = DECAY * average[i - 1] + (1.0 - DECAY) * variance[i]
    return days[at], features, target, np.sqrt(HORIZON * average[at])


def qlike(said: Floats, happened: Floats) -> float:
    """Mean of r - ln r - 1 with r = happened variance / said variance: 0 is perfect (Patton 2011)."""
    ratio = np.square(happened / said)
    return round(float((ratio - np.log(ratio) - 1.0).mean()), 4)


if __name__ == "__main__":
    main()
