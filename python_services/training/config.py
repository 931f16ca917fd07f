"""Configuration of the training service."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """How much work is taken on.

    maximum_waiting  jobs that may wait for their turn; one runs at a time
    maximum_attempts how often a job is begun whose process was lost with the service
    niceness         of the worker's process: trading comes first
    """

    maximum_waiting: int = 16
    maximum_attempts: int = 3
    niceness: int = 10

    def __post_init__(self) -> None:
        if self.maximum_waiting < 1:
            raise ValueError(f"maximum_waiting is {self.maximum_waiting}; use 1 or more")
        if self.maximum_attempts < 1:
            raise ValueError(f"maximum_attempts is {self.maximum_attempts}; use 1 or more")
        if not 0 <= self.niceness <= 19:
            raise ValueError(f"niceness is {self.niceness}; use 0 to 19")
