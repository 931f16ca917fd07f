"""Market data: loads and checks bars, and cuts immutable point-in-time snapshots."""
