"""Venue simulation: bars (``bars``), recorded books (``l2``), fees, and the bar backtest."""
