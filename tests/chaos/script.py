"""A fixed list of commands to a fresh ledger over the local transport; prints the hash of its last event.

python -m tests.chaos.script FOLDER
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
import time
from pathlib import Path

from alphamesh.execution.v1 import execution_pb2
from mesh import topology
from python_services.local import LocalSystem

from .client import Client, Limits
from .commands import Cancel, Submit
from .history import History
from .market import E9, NAMES, Market
from .rounds import ACCOUNTS, TRADING
from .system import TOPOLOGY

COMMANDS = 60


async def main(folder: Path) -> None:
    """Deterministic: one client after the other."""
    limits = Limits(order_notional=20_000, position=50_000, gross=120_000)
    async with LocalSystem(folder, topology.load(TOPOLOGY)) as system:
        roll = random.Random(1)
        client = Client(
            name="script",
            account=TRADING,
            near=True,
            links=system,  # type: ignore[arg-type]
            history=History(),
            random=roll,
            instruments={},
            limits=limits,
        )
        market = Market(client, ACCOUNTS)
        await market.open()
        for _ in range(3):
            await market.next_day()
            await market.allow(limits)
            market.learn(dict.fromkeys(NAMES, 100 * E9))  # not what they are worth: some fill, some are denied
            client.instruments = market.instruments
            for number in range(COMMANDS):
                await (Cancel() if number % 3 == 2 else Submit()).run(client)
        last = await client.execution.GetAccount(execution_pb2.GetAccountRequest(account_id=TRADING))
    walls = [time.time() for _ in range(8)]
    facts = {
        "hash": last.event_hash.hex(),
        "events": last.applied_seq,
        "wall_jumps": sum(abs(later - earlier) > 3600 for earlier, later in itertools.pairwise(walls)),
        "monotonic_offset_days": _offset_days(),
    }
    print(json.dumps(facts))


def _offset_days() -> int:
    """Of this process' time namespace."""
    path = Path("/proc/self/timens_offsets")
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) // 86_400 for line in lines if line.startswith("monotonic")), 0)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
