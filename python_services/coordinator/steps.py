"""How long each step of a cycle took: measured for people, never part of an event."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from python_services.kit import tracing


@dataclass
class Steps:
    """How long each step took: measured for people, never part of an event."""

    elapsed_ns: dict[str, int] = field(default_factory=dict)

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[None]:
        """Times the block, which is a span of the decision's trace too."""
        with self.timed(name), tracing.step(name):
            yield

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Times the block."""
        started = time.perf_counter_ns()
        try:
            yield
        finally:
            self.elapsed_ns[name] = time.perf_counter_ns() - started
