"""Learned volatility: a small model under ONNX Runtime forecasts the volatility of the next five days.

Trained by `python -m examples.agents.learned_volatility.train` on bars before 2009; card.json says on what, and how
well it did afterwards. It says nothing about direction: it has a voice in how large positions are, not in which.

    confidence = the smaller of the model's and the exponentially weighted volatility over the larger
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Floats, Mask, Signal, Window

from .features import NAMES, rows

FOLDER = Path(__file__).parent
HORIZON = 5


class DamagedModelError(RuntimeError):
    """model.onnx is not the file that the card describes."""


@cache
def card() -> dict[str, Any]:
    """What the model was trained on, and its checksum."""
    read: dict[str, Any] = json.loads((FOLDER / "card.json").read_text())
    return read


@cache
def _session() -> Any:
    import onnxruntime

    content = (FOLDER / "model.onnx").read_bytes()
    if hashlib.sha256(content).hexdigest() != card()["sha256"]:
        raise DamagedModelError("model.onnx does not have the sha256 of card.json; restore it, or train it again")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # the same sums in the same order
    return onnxruntime.InferenceSession(content, options)


def predict(features: Floats) -> Floats:
    """Standard deviation of the return of the next five bars, one for each row."""
    (logs,) = _session().run(None, {"features": features.astype(np.float32)})
    return np.asarray(np.exp(np.ravel(logs).astype(np.float64)))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    features = rows(window.high, window.low)
    known = np.isfinite(features).all(axis=1)
    volatility = np.full(len(eligible), np.nan)
    if known.any():
        volatility[known] = predict(features[known])
    recent = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=None,
        volatility=volatility,
        confidence=np.minimum(volatility, recent) / np.maximum(volatility, recent),
        clear=known & (recent > 0.0),
        unclear="the price does not move",
        evidence=dict(zip(NAMES, features.T, strict=True)),
        model_version=card()["version"],
    )


AGENT = Agent(
    agent_id="learned_volatility.har",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Forecasts the volatility of five days from daily ranges, with a learned model.",
    compute=compute,
)
