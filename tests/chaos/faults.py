"""What is done to the running system in a round, at a moment that the seed decides."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass
from typing import Protocol

from .system import Mesh


class Fault(Protocol):
    """Something that happens once."""

    @property
    def name(self) -> str:
        """For the table."""

    async def strike(self, mesh: Mesh, roll: random.Random) -> float:
        """Does it; returns the moment from which recovery is counted."""


@dataclass(frozen=True)
class Nothing:
    """The round that the others are compared with."""

    name: str = "none"

    async def strike(self, mesh: Mesh, roll: random.Random) -> float:
        """Does nothing."""
        return time.monotonic()


@dataclass(frozen=True)
class Kill:
    """kill -9."""

    victims: tuple[str, ...]

    @property
    def name(self) -> str:
        """For the table."""
        return f"kill -9 {' and '.join(self.victims)}"

    async def strike(self, mesh: Mesh, roll: random.Random) -> float:
        """All at once."""
        return mesh.signal(signal.SIGKILL, self.victims)


@dataclass(frozen=True)
class Freeze:
    """SIGSTOP, and SIGCONT a while later; recovery is counted from there."""

    victim: str

    @property
    def name(self) -> str:
        """For the table."""
        return f"freeze {self.victim}"

    async def strike(self, mesh: Mesh, roll: random.Random) -> float:
        """Half a second, more or less."""
        mesh.signal(signal.SIGSTOP, (self.victim,))
        try:
            await asyncio.sleep(roll.uniform(0.2, 0.8))
        finally:
            moment = mesh.signal(signal.SIGCONT, (self.victim,))
        return moment


FAULTS: tuple[Fault, ...] = (
    Kill(("execution",)),
    Kill(("nats",)),
    Kill(("execution", "nats")),
    Freeze("execution"),
    Freeze("nats"),
    Kill(("venue",)),
)
