"""Configuration of the edge service; the topology's `edge:` gives it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Served:
    """A contract that callers outside reach, for example "alphamesh.risk.v1.RiskService", and whose it is."""

    contract: str
    owner: str


@dataclass(frozen=True, kw_only=True)
class Config:
    """What is reached from outside.

    served           contracts, each of one service
    health_timeout_s how long a service may take to say how it is
    """

    served: tuple[Served, ...]
    health_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        if len({served.contract for served in self.served}) != len(self.served):
            raise ValueError("served names a contract twice; give each to one service")
        if not 0.0 < self.health_timeout_s <= 60.0:
            raise ValueError(f"health_timeout_s is {self.health_timeout_s}; use more than 0 and at most 60 seconds")
