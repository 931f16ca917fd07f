"""The breaker around a dependency: it opens, lets one trial through, and counts only what is a failure."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from python_services.kit.breaker import Breaker, BreakerOpenError
from python_services.kit.errors import ServiceError, invalid

RESET_S = 0.15


class Dependency:
    """Something that answers, fails or hangs, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self) -> str:
        self.asked += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return "answer"


AWAY = ServiceError(grpc.StatusCode.UNAVAILABLE, "AWAY", "it is away")


@pytest.fixture
def breaker() -> Breaker:
    return Breaker("model", failures=3, reset_s=RESET_S)


async def fail(breaker: Breaker, dependency: Dependency, times: int) -> None:
    for _ in range(times):
        with pytest.raises(type(dependency.error)):  # type: ignore[arg-type]
            await breaker.call(dependency)


async def test_it_opens_after_three_failures_and_says_what_the_last_was(breaker):
    dependency = Dependency()
    dependency.error = AWAY
    await fail(breaker, dependency, 3)
    with pytest.raises(BreakerOpenError) as refused:
        await breaker.call(dependency)
    assert dependency.asked == 3
    assert (
        refused.value.message
        == "the breaker of model is open after 3 failures in a row; the last: UNAVAILABLE: it is away"
    )
    assert refused.value.reason == "BREAKER_OPEN"


async def test_an_answer_between_failures_starts_the_count_again(breaker):
    dependency = Dependency()
    for _ in range(3):
        dependency.error = AWAY
        await fail(breaker, dependency, 2)
        dependency.error = None
        assert await breaker.call(dependency) == "answer"
    assert breaker.state == "closed"


async def test_a_timeout_counts_and_a_refusal_or_a_caller_that_left_does_not(breaker):
    dependency = Dependency()
    dependency.error = invalid("x", "wrong", "correct it")
    await fail(breaker, dependency, 10)
    dependency.error = None
    dependency.gate.clear()
    for _ in range(5):
        task = asyncio.ensure_future(breaker.call(dependency))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert breaker.state == "closed"
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await breaker.call(dependency)
    assert breaker.state == "closed", "a time limit outside is a caller that left"

    async def limited() -> str:
        async with asyncio.timeout(0.01):
            return await dependency()

    for _ in range(3):
        with pytest.raises(TimeoutError):
            await breaker.call(limited)
    assert breaker.state == "open"


async def test_callers_that_leave_do_not_hide_failures(breaker):
    dependency = Dependency()
    dependency.error = AWAY
    await fail(breaker, dependency, 2)
    dependency.gate.clear()
    task = asyncio.ensure_future(breaker.call(dependency))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    dependency.gate.set()
    await fail(breaker, dependency, 1)
    assert breaker.state == "open"


async def test_half_open_lets_one_trial_through_and_the_others_are_refused(breaker):
    dependency = Dependency()
    dependency.error = AWAY
    await fail(breaker, dependency, 3)
    await asyncio.sleep(RESET_S * 1.5)
    dependency.gate.clear()
    dependency.error = None
    waiting = [asyncio.ensure_future(breaker.call(dependency)) for _ in range(20)]
    await asyncio.sleep(0.01)
    assert dependency.asked == 4
    dependency.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert answers.count("answer") == 1
    assert sum(isinstance(answer, BreakerOpenError) for answer in answers) == 19
    assert breaker.state == "closed"
    assert await breaker.call(dependency) == "answer"


async def test_a_trial_that_fails_or_is_given_up_lets_nobody_else_through(breaker):
    dependency = Dependency()
    dependency.error = AWAY
    await fail(breaker, dependency, 3)
    await asyncio.sleep(RESET_S * 1.5)
    await fail(breaker, dependency, 1)
    with pytest.raises(BreakerOpenError):
        await breaker.call(dependency)
    await asyncio.sleep(RESET_S * 1.5)
    dependency.gate.clear()
    task = asyncio.ensure_future(breaker.call(dependency))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert breaker.state != "closed", "nobody has seen it answer"
    dependency.gate.set()
    dependency.error = None
    assert await breaker.call(dependency) == "answer", "the next one tries"
