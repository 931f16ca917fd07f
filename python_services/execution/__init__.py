"""Execution: orders, the pre-trade gate, positions and cash, in one single-writer ledger."""
