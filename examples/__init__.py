"""Worked examples, each run by a command."""
