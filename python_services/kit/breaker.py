"""A circuit breaker around a business dependency: an agent, a model, a vendor. Transport is the sidecar's matter.

pybreaker, with what its 1.4.1 needs in asyncio: its decorator never trips on a coroutine and `call` holds a lock, so
the `calling` block is used; half-open lets every waiting call through, so only one trial runs here; a cancelled call
is no success.
Source: M. Nygard, Release It!, 2nd ed., section 5.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import grpc
import pybreaker

from . import telemetry
from .errors import ServiceError, from_exception

T = TypeVar("T")
# The dependency is well and says no; or nobody waits for it any more.
_ANSWERS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.CANCELLED,
    }
)


class BreakerOpenError(ServiceError):
    """The dependency was not asked, because it failed too often."""

    def __init__(self, name: str, failures: int, last: str) -> None:
        message = f"the breaker of {name} is open after {failures} failures in a row; the last: {last}"
        super().__init__(grpc.StatusCode.UNAVAILABLE, "BREAKER_OPEN", message, metadata={"dependency": name})


class Breaker:
    """Opens after `failures` in a row; after `reset_s` one call is let through to try. Without failures: nothing."""

    def __init__(self, name: str, *, failures: int, reset_s: float) -> None:
        self._name = name
        self._failures = failures
        self._last = ""
        self._trying = False
        self._storage = pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=failures,
            reset_timeout=reset_s,
            exclude=[_is_answer],
            throw_new_error_on_trip=False,
            state_storage=self._storage,
            name=name,
        )

    @property
    def state(self) -> str:
        """ "closed", "open" or "half-open"."""
        return str(self._breaker.current_state)

    async def call(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` returns or raises. Raises BreakerOpenError without calling it while the breaker is open."""
        trial = self.state != pybreaker.STATE_CLOSED
        if trial and self._trying:
            raise self._open()
        self._trying = trial
        before, count = self.state, self._storage.counter
        try:
            with self._breaker.calling():
                return await work()
        except pybreaker.CircuitBreakerError:
            raise self._open() from None
        except asyncio.CancelledError:  # nothing was learnt; pybreaker took it for a success
            if trial:
                self._breaker.half_open()
            for _ in range(count):
                self._storage.increment_counter()
            raise
        except Exception as error:
            self._last = _text(error)
            raise
        finally:
            self._trying = self._trying and not trial
            if self.state != before:
                telemetry.logger().warning("breaker", dependency=self._name, state=self.state, last=self._last)

    def _open(self) -> BreakerOpenError:
        return BreakerOpenError(self._name, self._failures, self._last)


def _is_answer(error: BaseException) -> bool:
    if isinstance(error, asyncio.CancelledError):
        return True
    known = from_exception(error)
    return known is not None and known.code in _ANSWERS


def _text(error: Exception) -> str:
    known = from_exception(error)
    return f"{known.code.name}: {known.message}" if known else f"{type(error).__name__}: {error}"
