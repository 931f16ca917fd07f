"""alphamesh conformance."""

from __future__ import annotations

from contextlib import AsyncExitStack

import orjson

from ..conformance.market import Market, serve
from ..conformance.running import Outcome, Result, conformance, started
from ..errors import MeshError
from ..tables import console


async def run(
    target: str | None, module: str | None, config: str, market_data: str, deadline_s: float, as_json: bool
) -> int:
    """Exit code 1 when the agent does not conform."""
    if (target is None) == (module is None):
        raise MeshError("give either --target HOST:PORT of an agent that is up, or --module of a Python one")
    async with AsyncExitStack() as stack:
        if module is not None:
            address, market = await stack.enter_async_context(started(module, config))
        else:
            market = Market()
            server, port = await serve(market, market_data)
            stack.push_async_callback(server.stop, None)
            if not port and not market_data.startswith("unix:"):
                raise MeshError(f"cannot listen at {market_data}; choose another --market-data")
            address = str(target)
            if not as_json:
                console.print(f"serving market_data at {market_data}: {address} must fetch its snapshots there")
        outcome = await conformance(address, market, deadline_s, _ignore if as_json else _show)
    if as_json:
        print(orjson.dumps(_plain(outcome), option=orjson.OPT_INDENT_2).decode())
    else:
        _conclude(outcome)
    return 0 if outcome.passed else 1


def _ignore(result: Result) -> None:
    """JSON is printed once, at the end."""


def _show(result: Result) -> None:
    mark = "[green]kept  [/green]" if result.passed else "[red]broken[/red]"
    console.print(f"{mark} {result.check}")
    if not result.passed:
        console.print(f"       {result.problem}", markup=False)


def _conclude(outcome: Outcome) -> None:
    kept = sum(result.passed for result in outcome.results)
    for name, value in outcome.figures.items():
        console.print(f"{name}: {value:g}")
    console.print(f"{kept} of {len(outcome.results)} checks kept by {', '.join(outcome.agents) or 'no agent'}")


def _plain(outcome: Outcome) -> dict[str, object]:
    return {
        "passed": outcome.passed,
        "agents": outcome.agents,
        "checks": [
            {"check": result.check, "passed": result.passed, "problem": result.problem} for result in outcome.results
        ],
        "figures": outcome.figures,
    }
