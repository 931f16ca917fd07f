"""Technical agents: what prices and volumes say, as components of one service."""
