"""What this model makes of a prompt: computed from the numbers in it, by rule."""

from __future__ import annotations

import json
import math
from typing import Any


def answer(messages: list[dict[str, str]], schema_name: str) -> str:
    """The content of its answer to a conversation."""
    document = json.loads(next(message["content"] for message in messages if message["role"] == "user"))
    columns, rows = document["table"]["columns"], document["table"]["rows"]
    numbers = [dict(zip(columns, row, strict=True)) for row in rows]
    if schema_name == "argument":
        return json.dumps({"argument": _argue(numbers, document.get("transcript", []), messages[0]["content"])})
    heard = sum(len(turn["argument"]) for turn in document.get("transcript", []))
    return json.dumps({"views": [_view(row, heard) for row in numbers]})


def _score(row: dict[str, Any]) -> float:
    """A month's return in deviations, against a stretched RSI."""
    return float(row["return_20"] / (row["daily_volatility"] * math.sqrt(20.0)) - (row["rsi_14"] - 50.0) / 50.0)


def _view(row: dict[str, Any], heard: int) -> dict[str, Any]:
    probability = 0.5 * (1.0 + math.erf(0.5 * _score(row)))
    move = row["daily_volatility"] * math.sqrt(20.0)
    return {
        "row": row["row"],
        "probability_up": round(probability, 4),
        "expected_move": round(move, 4),
        "reason": f"return_20 is {row['return_20']}, rsi_14 is {row['rsi_14']}; heard {heard} letters",
    }


def _argue(numbers: list[dict[str, Any]], transcript: list[dict[str, str]], system: str) -> str:
    bullish = "bullish case" in system
    best = (max if bullish else min)(numbers, key=_score)
    reply = f", although {transcript[-1]['speaker']} spoke" if transcript else ""
    return f"row {best['row']} stands at {_score(best):.3f} deviations, the {'highest' if bullish else 'lowest'}{reply}"
