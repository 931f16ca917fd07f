"""Audit: every event of every stream as one record of who did what, with which outcome and why."""
