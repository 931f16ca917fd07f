"""Learned volatility, an agent with a model of its own."""
