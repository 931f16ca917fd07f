"""Reads the flow that ../matching.py wrote, for its peers, with the standard library alone."""

# mypy: ignore-errors

import struct
from pathlib import Path


def load(path):
    """Rows (kind, side, price, quantity, immediate, target): plain integers, six int64 a row."""
    return list(struct.iter_unpack("=6q", Path(path).read_bytes()))
