"""Configuration of the technical agents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which agents run; empty means all of them."""

    agents: tuple[str, ...] = ()
