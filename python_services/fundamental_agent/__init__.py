"""Fundamental agents: what companies filed, against their price and their peers, as components of one service."""
