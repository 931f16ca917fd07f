"""What an answer of a model costs: the kit's client, two sidecars and Triton, with a LightGBM of 300 trees in ONNX.

Client and servers share the machine; every answer is compared with LightGBM's own prediction, after the clock stopped.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import itertools
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.runner import Case
from benchmarks.servers.models import MODEL, Models
from python_services.kit.inference import InferenceClient, InferenceError
from python_services.kit.inference_admin import InferenceAdmin

ALONE = 300  # answers in a measure of latency
TOGETHER = 4_000
IN_FLIGHT = 32
BUSY = 2  # clients while a version is loaded
LOADS = 3
TIMEOUT_S = 5.0
TOLERANCE = 1e-4
_numbers = itertools.count(2)


@functools.cache
def _models() -> Models:
    models = Models()
    atexit.register(models.close)
    return models


async def _ask(client: InferenceClient, rows: int, version: int = 1, first: int = 0) -> NDArray[np.float32]:
    sent = _models().rows[first : first + rows]
    return (await client.infer(MODEL, version, {"features": sent}, {"variable": (rows, 1)}, TIMEOUT_S))["variable"]


def _check(found: NDArray[np.float32], first: int = 0) -> None:
    if not np.allclose(found, _models().expected[first : first + len(found)], atol=TOLERANCE):
        raise AssertionError(f"{MODEL} does not answer as LightGBM does")


def _latency(rows: int, quantile: float) -> Callable[[], float]:
    async def work(client: InferenceClient, _: InferenceAdmin) -> float:
        took = []
        for number in range(ALONE):
            first = number % 256
            begun = time.perf_counter()
            found = await _ask(client, rows, first=first)
            took.append(time.perf_counter() - begun)
            _check(found, first)
        return float(np.quantile(took, quantile)) * 1e3

    return lambda: _models().run_with(work)


def _throughput() -> float:
    async def work(client: InferenceClient, _: InferenceAdmin) -> float:
        async def caller(number: int) -> list[NDArray[np.float32]]:
            return [await _ask(client, 1, first=number) for _ in range(TOGETHER // IN_FLIGHT)]

        begun = time.perf_counter()
        answers = await asyncio.gather(*(caller(number) for number in range(IN_FLIGHT)))
        took = time.perf_counter() - begun
        for number, found in enumerate(answers):
            for each in found:
                _check(each, number)
        return TOGETHER / took

    return _models().run_with(work)


def _reload(failures_wanted: bool) -> Callable[[], float]:
    """Seconds until a new version answers while others ask the old one; or how many of these got no answer."""

    async def work(client: InferenceClient, admin: InferenceAdmin) -> float:
        failures, done = 0, asyncio.Event()

        async def traffic() -> None:
            nonlocal failures
            while not done.is_set():
                try:
                    _check(await _ask(client, 1))
                except InferenceError:
                    failures += 1

        clients = [asyncio.create_task(traffic()) for _ in range(BUSY)]
        took = []
        for version in itertools.islice(_numbers, LOADS):
            begun = time.perf_counter()
            admin.install(MODEL, version, _models().source)
            await admin.load(MODEL)
            found = await _ask(client, 1, version)
            took.append(time.perf_counter() - begun)
            _check(found)
            admin.remove(MODEL, version)
            await admin.load(MODEL)
        done.set()
        await asyncio.gather(*clients)
        return failures if failures_wanted else statistics.median(took)

    return lambda: _models().run_with(work)


def cases() -> list[Case]:
    """The part's rows."""
    return [
        Case(name="1 row, p50, client, sidecars and Triton", unit="ms", ours=_latency(1, 0.5), goal="ours <= 1.5"),
        Case(name="1 row, p99, client, sidecars and Triton", unit="ms", ours=_latency(1, 0.99)),
        Case(name="256 rows, p50, client, sidecars and Triton", unit="ms", ours=_latency(256, 0.5), goal="ours <= 4.5"),
        Case(name="32 in flight", unit="1/s", ours=_throughput, better="higher", goal="ours >= 3000"),
        Case(name="load of a new version under traffic", unit="s", ours=_reload(False), goal="ours <= 0.5"),
        Case(name="errors of others during loads", unit="requests", ours=_reload(True), goal="ours <= 0"),
    ]
