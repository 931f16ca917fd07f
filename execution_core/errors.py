"""Typed errors of the core. Services map them to gRPC statuses on purpose."""

from __future__ import annotations


class CoreError(ValueError):
    """Bad input to the core: `field` names the argument, `remedy` says what to do instead."""

    def __init__(self, field: str, problem: str, remedy: str) -> None:
        super().__init__(f"{field}: {problem}; {remedy}")
        self.field = field
        self.problem = problem
        self.remedy = remedy


class InvalidArrayError(CoreError):
    """An array of the wrong dtype, shape or order."""


class InvalidValueError(CoreError):
    """NaN, infinity, a negative where none can be, or a value out of its range."""


class CapacityError(CoreError):
    """A preallocated pool is full."""


class InfeasibleError(CoreError):
    """An optimisation's constraints contradict each other."""
