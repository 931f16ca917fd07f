"""Execution algorithms: how a parent order becomes children, and what the execution cost."""
