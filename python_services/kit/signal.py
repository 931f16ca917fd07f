"""Waking those who wait for a change, without losing one: take `next()`, look, then wait for it."""

from __future__ import annotations

import asyncio


class Signal:
    """Every `notify` sets the event that was next, and starts a new one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def next(self) -> asyncio.Event:
        """The event that the next `notify` sets. Take it before looking at what it is about."""
        return self._event

    def notify(self) -> None:
        """Wakes everyone who waits now."""
        event, self._event = self._event, asyncio.Event()
        event.set()


async def within(event: asyncio.Event, seconds: float) -> bool:
    """Whether `event` came within `seconds`: False is the moment for a heartbeat."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
