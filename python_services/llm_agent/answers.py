"""Reading what a model answered. Strict: what does not fit is refused, nothing is guessed or filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema
import orjson
from jsonschema import exceptions

from .prompts import ARGUMENT, VIEWS
from .table import Table


class BadAnswer(ValueError):  # noqa: N818 - the model's, not ours
    """Says what is wrong, in words that the model can be told. Never quotes more than a path."""


@dataclass(frozen=True, kw_only=True)
class View:
    """Of one instrument: P(price is higher at the horizon), size of the move, and why, for a person."""

    probability_up: float
    expected_move: float
    reason: str


_VALIDATORS = {id(schema): jsonschema.Draft202012Validator(schema) for schema in (ARGUMENT, VIEWS)}


def argument(content: str) -> str:
    """Raises BadAnswer."""
    return str(_fitting(content, ARGUMENT)["argument"])


def views(content: str, table: Table) -> Mapping[int, View]:
    """Views by row of the snapshot: exactly one for each row of the table. Raises BadAnswer."""
    found: dict[int, View] = {}
    for item in _fitting(content, VIEWS)["views"]:
        number = item["row"]
        if not 1 <= number <= len(table.rows):
            raise BadAnswer(f"row {number} is not in the table")
        row = table.rows[int(number) - 1]
        if row in found:
            raise BadAnswer(f"row {number} appears twice")
        found[row] = View(
            probability_up=float(item["probability_up"]),
            expected_move=float(item["expected_move"]),
            reason=item["reason"],
        )
    for number, row in enumerate(table.rows, start=1):
        if row not in found:
            raise BadAnswer(f"row {number} is missing")
    return found


def _fitting(content: str, schema: dict[str, Any]) -> dict[str, Any]:
    try:
        value = orjson.loads(content)
    except orjson.JSONDecodeError:
        raise BadAnswer("it is no JSON") from None
    error = exceptions.best_match(_VALIDATORS[id(schema)].iter_errors(value))
    if error is not None:
        raise BadAnswer(f"{error.json_path} does not fit the schema ({error.validator})")
    assert isinstance(value, dict)
    return value
