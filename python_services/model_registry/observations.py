"""What callers observed, as columns; what does not fit its rows is refused with its field and place. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from alphamesh.model.v1 import model_pb2
from python_services.kit.errors import invalid

Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.int64]

LARGEST = 10_000  # rows at once
MOST_OUTPUTS, MOST_FEATURES = 64, 256
_SINGLE = np.dtype("<f4")


@dataclass(frozen=True, kw_only=True)
class Question:
    """Which rows of which question, and its market time."""

    key: str
    ts_event_ns: int
    rows: Rows


@dataclass(frozen=True, kw_only=True)
class Answer:
    """prediction: rows x outputs. features: rows x features, None where they were not sent."""

    question: Question
    prediction: Floats
    latency_ns: int
    features: Floats | None = None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """No answer for any of the rows."""

    question: Question
    reason: model_pb2.Observation.Reason.ValueType
    latency_ns: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """value and realized_return: one for each row; realized_return is None while nobody knows."""

    question: Question
    value: Floats
    realized_return: Floats | None = None


Record: TypeAlias = Answer | Failure | Outcome


def read(observations: Iterable[model_pb2.Observation]) -> list[Record]:
    """Raises ServiceError (INVALID_ARGUMENT)."""
    found = [_read(each, f"observations[{i}]") for i, each in enumerate(observations)]
    if sum(len(each.question.rows) for each in found) > LARGEST:
        raise invalid("observations", f"more than {LARGEST} rows", "send them in parts, each with a request_id")
    return found


def _read(message: model_pb2.Observation, where: str) -> Record:
    rows = np.fromiter(message.row, np.int64, len(message.row))
    unordered = np.flatnonzero(rows[1:] <= rows[:-1])
    if len(unordered):
        place = int(unordered[0]) + 1
        raise invalid(f"{where}.row[{place}]", "not above the one before it", "sort the rows, and name each once")
    question = Question(key=message.key_sha256, ts_event_ns=message.ts_event_ns, rows=rows)
    match message.WhichOneof("record"):
        case "answer":
            answer, field = message.answer, f"{where}.answer"
            return Answer(
                question=question,
                prediction=_table(_doubles(answer.prediction), rows, f"{field}.prediction", MOST_OUTPUTS),
                latency_ns=answer.latency_ns,
                features=_features(answer.features, rows, f"{field}.features"),
            )
        case "failure":
            failure = message.failure
            return Failure(question=question, reason=failure.reason, latency_ns=failure.latency_ns)
        case _:
            outcome, field = message.outcome, f"{where}.outcome"
            realized = _doubles(outcome.realized_return)
            return Outcome(
                question=question,
                value=_column(_doubles(outcome.value), rows, f"{field}.value"),
                realized_return=_column(realized, rows, f"{field}.realized_return") if len(realized) else None,
            )


def _doubles(values: Iterable[float]) -> Floats:
    return np.fromiter(values, np.float64)


def _features(content: bytes, rows: Rows, field: str) -> Floats | None:
    if not content:
        return None
    if len(content) % _SINGLE.itemsize:
        raise invalid(field, f"{len(content)} bytes are no whole single-precision numbers", "send 4 bytes a number")
    flat = np.frombuffer(content, _SINGLE).astype(np.float64)
    return _finite(_table(flat, rows, field, MOST_FEATURES), rows, field)


def _table(flat: Floats, rows: Rows, field: str, most: int) -> Floats:
    width, left = divmod(len(flat), len(rows))
    if left or not 1 <= width <= most:
        problem = f"{len(flat)} values for {len(rows)} rows"
        raise invalid(field, problem, f"send the same number of values for each row, {most} at most")
    return flat.reshape(len(rows), width)


def _column(values: Floats, rows: Rows, field: str) -> Floats:
    if len(values) != len(rows):
        raise invalid(field, f"{len(values)} values for {len(rows)} rows", "send one for each row")
    return _finite(values, rows, field)


def _finite(values: Floats, rows: Rows, field: str) -> Floats:
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        place = int(wrong[0])
        row = rows[place * len(rows) // values.size]
        raise invalid(f"{field}[{place}]", f"{values.flat[place]}, of row {row}, is not finite", "leave that row out")
    return values
