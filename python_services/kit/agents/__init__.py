"""What agents are made of: a window of bars, one pure function an agent, and the service around a cluster of them."""

from .agent import Abstention, Agent, Forecast, Reason, Signal, forecast
from .statistics import average_weights, confidence, mean, sample_variance, tail, variance_of, weighted_past
from .window import SAMPLE, Floats, Mask, Window, eligible

__all__ = [
    "SAMPLE",
    "Abstention",
    "Agent",
    "Floats",
    "Forecast",
    "Mask",
    "Reason",
    "Signal",
    "Window",
    "average_weights",
    "confidence",
    "eligible",
    "forecast",
    "mean",
    "sample_variance",
    "tail",
    "variance_of",
    "weighted_past",
]
