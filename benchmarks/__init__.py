"""Benchmarks: ours against the best public peer, measured side by side on the same machine."""
