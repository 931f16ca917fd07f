"""Running a command until it is done or told to stop: Ctrl-C once to stop in order, twice to stop at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(work: Callable[[], Awaitable[int]]) -> int:
    """Runs `work` and returns its exit code, or 128 + signal when a signal ended it."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_until_signal(work))


async def _until_signal(work: Callable[[], Awaitable[int]]) -> int:
    received: list[int] = []
    task = asyncio.ensure_future(work())

    def stop(number: int) -> None:
        received.append(number)
        task.cancel()  # the second one interrupts the orderly stop, which then kills

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0]
