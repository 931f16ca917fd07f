"""From the features of a row to a forecast, through the model.

A classifier says with which probability p the price is higher at the horizon, a regressor with which standard deviation
v it will have moved. For a normal return that moves by v, P(return > 0) = p means an expected return of v times the
normal quantile of p. Confidence is |2p - 1|: 0 for a coin, 1 for a certainty; p is calibrated out of sample, so it is
how often the sign comes true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from python_services.kit.agents import Forecast
from python_services.kit.agents import Reason as Silence
from python_services.kit.agents.agent import Withheld
from python_services.kit.inference import InferenceClient, InferenceError, Reason

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]

AGENT_ID = "learned.direction"
VERSION = "1"
HORIZON_BARS = 5
_QUANTILE = NormalDist().inv_cdf


@dataclass(frozen=True, kw_only=True)
class Table:
    """Features of every instrument asked for: rows x columns, NaN where there is no value."""

    names: tuple[str, ...]
    values: Floats

    def complete(self) -> NDArray[np.int64]:
        """Rows that have all values."""
        return np.flatnonzero(np.isfinite(self.values).all(axis=1))

    def missing(self) -> list[Withheld]:
        """The other rows, by what they do not have: a young universe lacks the same everywhere."""
        absent = ~np.isfinite(self.values)
        groups: dict[bytes, list[int]] = {}
        for row in np.flatnonzero(absent.any(axis=1)).tolist():
            groups.setdefault(absent[row].tobytes(), []).append(row)
        return [
            Withheld(index=index, reason=Silence.MISSING_DATA, detail=f"no {self._names(absent[index[0]])}")
            for index in groups.values()
        ]

    def _names(self, chosen: NDArray[np.bool_]) -> str:
        return ", ".join(name for name, is_chosen in zip(self.names, chosen.tolist(), strict=True) if is_chosen)


def in_order(found: Mapping[str, Floats], names: Sequence[str]) -> Table:
    """Columns in the order that a model was trained with. Raises KeyError with the first that is not there."""
    return Table(names=tuple(names), values=np.column_stack([found[name] for name in names]))


def rows(table: Table, index: NDArray[np.int64]) -> Singles:
    """What the model is given: rows x columns, single precision, C-contiguous."""
    return np.ascontiguousarray(table.values[index], dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a version says of some rows: P(return > 0) over the horizon, and the standard deviation of that return."""

    up_probability: Floats
    volatility: Floats


async def ask(
    models: InferenceClient, model_id: str, version: int, table: Table, index: NDArray[np.int64], timeout_s: float
) -> Answer | InferenceError:
    """The answer for `index`, or why there is none that can be used."""
    shape = (len(index), 1)
    try:
        found = await models.infer(
            model_id,
            version,
            {"features": rows(table, index)},
            {"up_probability": shape, "volatility": shape},
            timeout_s=timeout_s,
        )
    except InferenceError as error:
        return error
    answer = Answer(
        up_probability=found["up_probability"].astype(np.float64).ravel(),
        volatility=found["volatility"].astype(np.float64).ravel(),
    )
    return _implausible(f"{model_id}/{version}", answer) or answer


def forecast(
    model_version: str, table: Table, index: NDArray[np.int64], answer: Answer | InferenceError | None
) -> Forecast:
    """What the answer for `index` means. Without a model nothing is said about any of it, and the forecast says why.

    None: nothing was asked, as no row is complete.
    """
    withheld, degraded, evidence = table.missing(), None, {}
    if not isinstance(answer, Answer):
        if answer is not None:
            degraded = f"{model_version} did not answer: {answer.reason}: {answer.message}"
            withheld.append(Withheld(index=index.tolist(), reason=Silence.DEPENDENCY_UNAVAILABLE, detail=degraded))
        index, answer = index[:0], Answer(up_probability=np.empty(0), volatility=np.empty(0))
    else:
        evidence = {"up_probability": answer.up_probability}
        evidence |= {name: table.values[index, column] for column, name in enumerate(table.names)}
    probability, deviation = answer.up_probability, answer.volatility
    quantiles = np.array([_QUANTILE(value) for value in probability.tolist()])
    return Forecast(
        agent_id=AGENT_ID,
        agent_version=VERSION,
        model_version=model_version,
        horizon_bars=HORIZON_BARS,
        index=index,
        expected_return=deviation * quantiles,
        volatility=deviation,
        confidence=np.abs(2.0 * probability - 1.0),
        evidence=evidence,
        withheld=withheld,
        degraded=degraded,
    )


def _implausible(what: str, answer: Answer) -> InferenceError | None:
    """A number that is no probability, or no deviation, is no answer."""
    lowest, highest = float(answer.up_probability.min()), float(answer.up_probability.max())
    if not 0.0 < lowest <= highest < 1.0:
        return InferenceError(Reason.BAD_REPLY, f"{what}: up_probability is {lowest:g} to {highest:g}, not in (0, 1)")
    if not answer.volatility.min() > 0.0:
        return InferenceError(Reason.BAD_REPLY, f"{what}: volatility is {answer.volatility.min():g}, not above 0")
    return None
