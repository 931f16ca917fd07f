"""Technical agents: trend, momentum, mean reversion and volatility, as components of one service."""
