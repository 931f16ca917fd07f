"""market_regime: a Gaussian hidden Markov model of the market's mood, for the coordinator.

Not a model that Triton serves: three dozen numbers that the coordinator filters with. Fitted with hmmlearn on the
bundled prices before 2009; the number of states (two or three) is the one with the lower BIC.

    python -m python_services.training.recipes._market_regime [--into FOLDER]
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from ..artifacts import ROOT

Floats = NDArray[np.float64]

NAME, VERSION = "equal_weight", 1
BARS = Path("python_services/market_data/bundled/us_equities_daily.csv.gz")
INSTRUMENTS = ("AAPL", "IBM", "MSFT")  # those with bars from the beginning
UNTIL = "2009-01-01"
VOLATILITY_BARS = 20
MINIMUM_BARS = 80  # twenty for the first volatility, sixty to forget where the filter started
SEEDS = range(10)
LABELS = {2: ("CALM", "TURBULENT"), 3: ("CALM", "NORMAL", "TURBULENT")}


def closes() -> tuple[list[str], Floats]:
    """Days and adjusted closes, days x INSTRUMENTS, of the days before UNTIL on which all traded."""
    found: dict[str, dict[str, float]] = {}
    with gzip.open(ROOT / BARS, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["Ticker"] in INSTRUMENTS and row["Date"] < UNTIL:
                found.setdefault(row["Date"], {})[row["Ticker"]] = float(row["Adj Close"])
    days = sorted(day for day, prices in found.items() if len(prices) == len(INSTRUMENTS))
    return days, np.array([[found[day][name] for name in INSTRUMENTS] for day in days])


def observations(close: Floats) -> Floats:
    """As coordinator/regime.py makes them (a test holds the two together): return, log realised volatility."""
    returns = (close[1:] / close[:-1] - 1.0).mean(axis=1)
    squares = np.convolve(returns * returns, np.full(VOLATILITY_BARS, 1.0 / VOLATILITY_BARS), mode="valid")
    return np.column_stack((returns[VOLATILITY_BARS - 1 :], 0.5 * np.log(np.maximum(squares, 1e-12))))


def fit(standard: Floats, states: int) -> Any:
    """The best of several starts, states ordered by volatility."""
    from hmmlearn.hmm import GaussianHMM

    fitted = []
    for seed in SEEDS:
        model = GaussianHMM(states, covariance_type="full", n_iter=500, tol=1e-4, random_state=seed)
        model.fit(standard)
        fitted.append((model.score(standard), -seed, model))
    best = max(fitted, key=lambda each: each[:2])[2]
    order = np.argsort(best.means_[:, 1])
    best.startprob_ = best.startprob_[order]
    best.transmat_ = best.transmat_[np.ix_(order, order)]
    best.means_ = best.means_[order]
    best.covars_ = best.covars_[order]
    return best


def train() -> dict[str, Any]:
    """Parameters and card."""
    import hmmlearn

    days, close = closes()
    rows = observations(close)
    centre, scale = rows.mean(axis=0), rows.std(axis=0)
    standard = (rows - centre) / scale
    models = {states: fit(standard, states) for states in LABELS}
    bic = {states: float(model.bic(standard)) for states, model in models.items()}
    states = min(bic, key=lambda count: bic[count])
    model = models[states]
    occupied = np.bincount(model.predict(standard), minlength=states) / len(standard)
    stay = np.diag(model.transmat_)
    # Where a session starts nothing is known of the past: the long-run share of each state.
    values, vectors = np.linalg.eig(model.transmat_.T)
    long_run = np.real(vectors[:, np.argmax(np.real(values))])
    return {
        "version": VERSION,
        "labels": LABELS[states],
        "volatility_bars": VOLATILITY_BARS,
        "minimum_bars": MINIMUM_BARS,
        "parameters": {
            "start": (long_run / long_run.sum()).tolist(),
            "transition": model.transmat_.tolist(),
            "mean": model.means_.tolist(),
            "covariance": model.covars_.tolist(),
            "centre": centre.tolist(),
            "scale": scale.tolist(),
        },
        "card": {
            "purpose": "Context of the coordinator: agents' track records are kept by regime. It forecasts nothing.",
            "data": {
                "source": BARS.name,
                "sha256": hashlib.sha256((ROOT / BARS).read_bytes()).hexdigest(),
                "instruments": INSTRUMENTS,
                "from": days[0],
                "until": days[-1],
                "rows": len(rows),
            },
            "library": f"hmmlearn {hmmlearn.__version__}",
            "log_likelihood_per_row": float(model.score(standard)) / len(standard),
            "bic": {str(count): value for count, value in bic.items()},
            "share_of_days": dict(zip(LABELS[states], occupied.tolist(), strict=True)),
            "mean_bars_in_state": dict(zip(LABELS[states], (1.0 / (1.0 - stay)).tolist(), strict=True)),
            "daily_volatility": dict(
                zip(LABELS[states], np.exp(model.means_[:, 1] * scale[1] + centre[1]).tolist(), strict=True)
            ),
            "limits": [
                "Three large US technology shares: a broad universe is calmer, and is called calm more often.",
                "Regimes differ by volatility above all; they say nothing about where prices go.",
                "Overlapping volatility windows make states stick; a change is told days after it began.",
            ],
            "licence": "Apache-2.0",
        },
    }


def main() -> int:
    """Writes the parameters, sorted and indented: the same data and library give the same file."""
    parser = argparse.ArgumentParser(prog="python -m python_services.training.recipes._market_regime")
    parser.add_argument("--into", type=Path, default=ROOT / "python_services/coordinator/regimes", metavar="FOLDER")
    target = parser.parse_args().into / f"{NAME}.json"
    content = train()
    options = orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    target.write_bytes(orjson.dumps(content, option=options))
    print(f"{len(content['labels'])} states, written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
