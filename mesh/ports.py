"""TCP ports on this machine, below those that the kernel gives to outgoing connections.

A port is chosen before its server binds it: others are told of it, and a server that is restarted keeps it.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from .errors import MeshError

LOOPBACK = "127.0.0.1"
_LOWEST, _HIGHEST = 15_000, 32_000
_TRIES = 2_000


def free(count: int) -> list[int]:
    """Ports that nobody listens on now, each another. Raises MeshError when there are none."""
    first_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    highest = min(_HIGHEST, first_outgoing) if first_outgoing > _LOWEST + 1_000 else _HIGHEST
    chance = random.SystemRandom()
    found: dict[int, socket.socket] = {}
    try:
        for _ in range(_TRIES):
            if len(found) == count:
                break
            port = chance.randrange(_LOWEST, highest)
            trial = socket.socket()
            try:
                trial.bind((LOOPBACK, port))
            except OSError:
                trial.close()
                continue
            found[port] = trial  # kept open, so that it is not found twice
    finally:
        for trial in found.values():
            trial.close()
    if len(found) < count:
        raise MeshError(f"no {count} free ports between {_LOWEST} and {highest}; stop what listens there")
    return list(found)
