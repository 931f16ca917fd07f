"""Coordinator: one decision cycle at a time, each recorded with its whole lineage before any order."""
