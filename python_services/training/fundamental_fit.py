"""fundamental_quality's rows, its regression, and how it is judged: as shipped, and fitted anew each year."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from python_services.kit.facts import CompanyFacts

from .facts_ratios import FEATURES, following_return, newest_ratios, ratios

Floats = NDArray[np.float64]
PENALTIES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
RETURN = FEATURES.index("return_on_assets")


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
            known = training_rows(facts, midnight_ns(f"{year}-01-01"))
            predicted[now] = fit(known, choose_penalty(known)).predict(rows.features[now])
    later = year_of >= first_year
    return predicted[later], rows.take(later)


def _rows(found: Sequence[tuple[str, date, tuple[float, ...], float, int]]) -> Rows:
    return Rows(
        instrument=np.array([each[0] for each in found], dtype=np.str_),
        end=np.array([each[1].isoformat() for each in found], dtype=np.str_),
        features=np.array([each[2] for each in found], dtype=np.float64).reshape(-1, len(FEATURES)),
        target=np.array([each[3] for each in found], dtype=np.float64),
        known_at_ns=np.array([each[4] for each in found], dtype=np.int64),
    )


def midnight_ns(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 10**9
