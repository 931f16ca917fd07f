"""Agents whose forecasts come from learned models, which Triton serves."""
