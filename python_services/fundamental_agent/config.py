"""Configuration of the fundamental agents."""

from __future__ import annotations

from dataclasses import dataclass, field

from .agents.dcf import Assumptions


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agents run, empty means all of them; and what the discounted cash flow assumes."""

    agents: tuple[str, ...] = ()
    dcf: Assumptions = field(default_factory=Assumptions)
