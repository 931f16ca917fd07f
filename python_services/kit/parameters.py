"""Parameters of training: plain values as the contract carries them."""

from __future__ import annotations

from alphamesh.training.v1 import training_pb2


def parameter(name: str, value: bool | int | float | str) -> training_pb2.Parameter:
    """A parameter of an engine."""
    if isinstance(value, bool):
        return training_pb2.Parameter(name=name, bool_value=value)
    if isinstance(value, int):
        return training_pb2.Parameter(name=name, int64_value=value)
    if isinstance(value, float):
        return training_pb2.Parameter(name=name, double_value=value)
    return training_pb2.Parameter(name=name, string_value=value)
