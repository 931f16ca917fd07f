"""Portfolio: forecasts to target holdings, the ledger's events to performance."""
