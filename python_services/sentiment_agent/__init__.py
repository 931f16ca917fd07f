"""Agents that forecast from what is written about an instrument."""
