"""Reads the flow that ../matching.py wrote, for its peers, with the standard library alone."""

# mypy: ignore-errors

import struct


def load(path):
    """Rows (kind, side, price, quantity, immediate, target): plain integers, six int64 a row."""
    with open(path, "rb") as file:
        return list(struct.iter_unpack("=6q", file.read()))
