"""What drivers of a server on the network share: a thread with its own loop, and a lease that is renewed from it.

A lease has a time to live, which the server counts. The same holder (a service that was restarted) takes it over at
once; another one is refused until it runs out. Each take-over raises the epoch, which fences the writer before. A
writer that cannot renew in time ends by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from alphamesh.audit.v1 import event_pb2

from .store import Batch, FencedError, JournalError, Stored

T = TypeVar("T")
LEASE_S = 9.0
CALL_S = 5.0  # an answer that takes longer than this is none


class RemoteStore(ABC):
    """A driver whose client library is asynchronous. The subclass connects in `_open`."""

    def __init__(self, where: str, stream: str, holder: str, lease_s: float | None = None) -> None:
        """Connects and takes the lease. Raises JournalError."""
        self.where = where
        self.epoch = 0
        self._stream = stream
        self._holder = holder
        self._lease_s = lease_s = lease_s or LEASE_S
        self._lost: Callable[[JournalError], None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"journal-{stream}", daemon=True)
        self._thread.start()
        asked = time.monotonic()
        try:
            self._call(self._open(), CALL_S * 4)
        except BaseException:
            self._stop()
            raise
        self.lease_until = asked + lease_s
        asyncio.run_coroutine_threadsafe(self._keep_lease(), self._loop)

    def watch(self, lost: Callable[[JournalError], None]) -> None:
        """`lost` is called in the driver's thread."""
        self._lost = lost

    def frames(self, from_seq: int) -> Iterator[Stored]:
        """Frames in order, fetched page by page."""
        while page := self._call(self._page(from_seq), CALL_S * 4):
            yield from page
            from_seq = page[-1][0] + page[-1][1]

    def append(self, batch: Batch) -> Future[None]:
        """Done when the server says that it is durable."""
        return asyncio.run_coroutine_threadsafe(self._guard(self._append(batch), self._lease_s), self._loop)

    def answer(self, request_id: str) -> event_pb2.Answer | None:
        """Asks the server only for requests that were answered."""
        return self._call(self._answer(request_id)) if self._is_answered(request_id) else None

    @property
    @abstractmethod
    def answers(self) -> int:
        """How many there are."""

    def check_answers(self) -> None:  # noqa: B027 - they were checked while opening
        """Nothing more to read."""

    def close(self) -> None:
        """Gives the lease back; when that fails it runs out by itself."""
        if self._thread.is_alive():
            if time.monotonic() < self.lease_until:
                with contextlib.suppress(JournalError):  # fenced, or the server is away: nothing to give back
                    self._call(self._release())
            self._stop()

    # --- what a driver does ------------------------------------------------------------------------

    @abstractmethod
    async def _open(self) -> None:
        """Connects, takes the lease, fences the writer before; sets `epoch`."""

    @abstractmethod
    async def _renew(self) -> None:
        """Renews the lease. Raises FencedError when it is another's."""

    @abstractmethod
    async def _release(self) -> None:
        """Gives the lease back."""

    @abstractmethod
    async def _disconnect(self) -> None:
        """Closes the connection, if there is one."""

    @abstractmethod
    async def _page(self, from_seq: int) -> list[Stored]:
        """The next frames, from the one that holds `from_seq`; empty at the end."""

    @abstractmethod
    async def _append(self, batch: Batch) -> None:
        """Writes one batch."""

    @abstractmethod
    def _is_answered(self, request_id: str) -> bool:
        """Whether there is an answer."""

    @abstractmethod
    async def _answer(self, request_id: str) -> event_pb2.Answer:
        """Fetches an answer that there is."""

    @abstractmethod
    def _explain(self, error: Exception) -> JournalError | None:
        """What an error of the client library means; None for one that is not its."""

    # --- the thread --------------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float = CALL_S) -> T:
        return asyncio.run_coroutine_threadsafe(self._guard(work, timeout_s), self._loop).result()

    async def _guard(self, work: Coroutine[Any, Any, T], timeout_s: float = CALL_S) -> T:
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except JournalError:
            raise
        except Exception as error:
            known = self._explain(error)
            if known is None and not isinstance(error, TimeoutError | OSError):
                raise
            raise known or JournalError(
                f"{self.where} does not answer ({error!r}); see that it runs and can be reached, then restart"
            ) from error

    async def _keep_lease(self) -> None:
        """Renews until the lease is lost. A server that is away is asked again while there is time."""
        pause = self._lease_s / 3
        while True:
            await asyncio.sleep(pause)
            asked = time.monotonic()
            try:
                await self._guard(self._renew(), max(self.lease_until - asked, 0.1))
                self.lease_until, pause = asked + self._lease_s, self._lease_s / 3
            except JournalError as error:
                if not isinstance(error, FencedError) and time.monotonic() < self.lease_until:
                    pause = 0.2
                    continue
                self.lease_until = 0.0
                if self._lost is not None:
                    self._lost(error)
                return

    def _fenced(self) -> FencedError:
        return FencedError(f"another writer has taken over {self._stream} in {self.where}; this process must end")

    def _held(self, holder: str) -> JournalError:
        return JournalError(
            f"{self._stream} in {self.where} is being written by {holder}; stop that system, or wait "
            f"{self._lease_s:g} s after it ended"
        )

    def _stop(self) -> None:
        async def end() -> None:
            with contextlib.suppress(Exception):  # a connection that is broken already
                await asyncio.wait_for(self._disconnect(), 1.0)
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
