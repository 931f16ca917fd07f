"""What an account holds for proposals that are no orders yet: one table of numbers, no object per reservation.

A reservation's id is the gate's handle of it: its low bits are the row, and no handle is ever given twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from alphamesh.execution.v1 import events_pb2

from .modes import SLOT_MASK

Ints = NDArray[np.int64]

REMEMBERED_BATCHES = 256
FAR_NS = 2**62

_ROW = np.dtype(
    [
        ("id", np.int64),  # 0: free
        ("expire_ns", np.int64),
        ("price", np.int64),  # ticks
        ("agent", np.int32),
        ("instrument", np.int32),
        ("side", np.int64),
    ],
    align=True,
)


class Agent:
    """What is remembered of one agent: its number here, and its last batches, for those who ask again."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.last_batch = 0
        self.batches: OrderedDict[int, tuple[int, events_pb2.ReservationGranted]] = OrderedDict()


class Reservations:
    """The reservations of one account that no order has consumed."""

    def __init__(self, capacity: int) -> None:
        self._rows = np.zeros(capacity + 2, _ROW)
        self.agents: dict[str, Agent] = {}
        self.next_expiry_ns = FAR_NS
        self.count = 0

    def agent(self, agent_id: str) -> Agent:
        """The agent, known from now on."""
        found = self.agents.get(agent_id)
        if found is None:
            found = self.agents[agent_id] = Agent(len(self.agents))
        return found

    def grant(self, event: events_pb2.ReservationGranted, asked: NDArray[np.void], ids: Ints, seq: int) -> None:
        """Takes a batch in: `asked` its proposals as GATE_ORDER rows, `ids` the reservations, 0 where denied."""
        agent = self.agent(event.agent_id)
        agent.last_batch = event.batch_number
        agent.batches[event.batch_number] = (seq, event)
        if len(agent.batches) > REMEMBERED_BATCHES:
            agent.batches.popitem(last=False)
        if not ids.all():
            granted = np.flatnonzero(ids)
            ids, asked = ids[granted], asked[granted]
        if not len(ids):
            return
        entries = np.empty(len(ids), _ROW)
        entries["id"], entries["expire_ns"] = ids, event.verdicts.expire_time_ns
        entries["agent"] = agent.number
        for name in ("price", "instrument", "side"):
            entries[name] = asked[name]
        self._rows[ids & SLOT_MASK] = entries
        self.count += len(ids)
        self.next_expiry_ns = min(self.next_expiry_ns, event.verdicts.expire_time_ns)

    def held(self, ids: Iterable[int], agent_id: str = "") -> list[int]:
        """Those of `ids` that are held, by this agent if one is named; each once, in their order."""
        wanted = np.fromiter(dict.fromkeys(ids), np.int64)
        wanted = wanted[(wanted > 0) & (wanted & SLOT_MASK < len(self._rows))]
        rows = self._rows[wanted & SLOT_MASK]
        mine = rows["id"] == wanted
        if agent_id:
            mine &= rows["agent"] == self._number(agent_id)
        found: list[int] = wanted[mine].tolist()
        return found

    def _number(self, agent_id: str) -> int:
        agent = self.agents.get(agent_id)
        return -1 if agent is None else agent.number

    def terms(self, identifier: int) -> tuple[int, int] | None:
        """(dense index of the instrument, side) of a reservation that is held; None for any other."""
        if not self.held([identifier]):
            return None
        row = self._rows[identifier & SLOT_MASK]
        return int(row["instrument"]), int(row["side"])

    def end(self, ids: Iterable[int]) -> None:
        """Forgets reservations that are held: released, expired or consumed."""
        at = np.fromiter(ids, np.int64) & SLOT_MASK
        self._rows[at] = np.zeros((), _ROW)
        self.count -= len(at)

    def due(self, now_ns: int) -> list[int]:
        """Reservations whose time is over, by id; also works out when the next one's will be."""
        rows = self._rows
        ids: Ints = rows["id"]
        over = (ids != 0) & (rows["expire_ns"] <= now_ns)
        rest = (ids != 0) & ~over
        self.next_expiry_ns = int(rows["expire_ns"][rest].min(initial=FAR_NS))
        found: list[int] = np.sort(ids[over]).tolist()
        return found

    def listed(self, agent_id: str = "") -> NDArray[np.void]:
        """Rows that are held, by id; only those of an agent if one is named."""
        rows = self._rows[self._rows["id"] != 0]
        if agent_id:
            rows = rows[rows["agent"] == self._number(agent_id)]
        ordered: NDArray[np.void] = rows[np.argsort(rows["id"])]
        return ordered

    def agent_name(self, number: int) -> str:
        """The agent with this number."""
        return list(self.agents)[number]
