"""Runs the checks against an agent: one that is up, or one of ours that is started for it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from python_services.kit.client import MAX_MESSAGE_BYTES, authority

from ..errors import MeshError
from ..topology import ROOT
from .checks import CHECKS, Bench, BrokenError
from .market import Market, serve

START_S = 60.0
MODELS = ROOT / "triton_models"
_STOP_S = 10.0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One check: what it says, and why it does not hold; empty when it does."""

    check: str
    problem: str

    @property
    def passed(self) -> bool:
        """Whether it holds."""
        return not self.problem


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All of them, the agents that were found, and what was measured."""

    results: list[Result]
    agents: list[str]
    figures: dict[str, float]

    @property
    def passed(self) -> bool:
        """Whether the agent conforms."""
        return all(result.passed for result in self.results)


async def conformance(
    target: str, market: Market, deadline_s: float, done: Callable[[Result], None] = lambda _: None
) -> Outcome:
    """Every check against the AgentService at `target`, which reads `market`."""
    options = [
        ("grpc.default_authority", authority("agent")),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 0),
    ]
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        await _reached(channel, target)
        bench, results = Bench(channel, market, deadline_s), []
        for check in CHECKS:
            problem = ""
            try:
                await check(bench)
            except BrokenError as error:
                problem = str(error)
            except grpc.aio.AioRpcError as error:
                problem = f"{error.code().name}: {error.details()}"
            results.append(Result(check=check.__doc__ or "", problem=problem))
            done(results[-1])
    return Outcome(results=results, agents=list(bench.agents), figures=bench.figures)


@asynccontextmanager
async def started(module: str, config: str) -> AsyncIterator[tuple[str, Market]]:
    """The address of a service that runs alone in a process, and the market that it reads. Raises MeshError.

    It may call `market_data`, and `triton`, where the models that ship are served by ONNX Runtime.
    """
    market = Market()
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
        own, theirs = f"unix:{folder}/agent.sock", f"unix:{folder}/market.sock"
        server, _ = await serve(market, theirs, MODELS)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "python_services.kit.standalone", module,
            "--listen", own, "--callee", f"market_data={theirs}", "--callee", f"triton={theirs}", "--config", config,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
        )  # fmt: skip
        try:
            await _up(process, own, module)
            yield own, market
        finally:
            await _stopped(process)
            await server.stop(None)


async def _up(process: asyncio.subprocess.Process, address: str, module: str) -> None:
    """Returns when it accepts connections."""
    ended = asyncio.create_task(process.communicate())
    async with grpc.aio.insecure_channel(address) as channel:
        ready = asyncio.create_task(_reached(channel, address))
        await asyncio.wait((ended, ready), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            return await ready
        ready.cancel()
    said = (await ended)[1].decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    raise MeshError(f"{module} did not start; it said: {said[0]}")


async def _stopped(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _reached(channel: grpc.aio.Channel, target: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            await channel.channel_ready()
    except TimeoutError as error:
        raise MeshError(
            f"nobody answers at {target} within {START_S:g} s; start the agent, and give its address"
        ) from error
