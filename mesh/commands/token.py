"""token: lets somebody in at the edge."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from ..connect import run_topology
from ..rundir import RunDir
from ..tokens import TokenError, Tokens


async def token(role: str, subject: str, hours: float, data_dir: Path | None) -> int:
    """Prints the token and nothing else. Raises TokenError."""
    run = RunDir.find(data_dir)
    edge = run_topology(run).edge
    if edge is None:
        raise TokenError(f"the topology of {run.path} has no edge; add `edge:` to it")
    if role not in edge.roles:
        raise TokenError(f"--role {role}: the edge has no such role; it has {', '.join(edge.roles)}")
    if hours > edge.max_token_hours:
        raise TokenError(f"--hours {hours:g}: a token is valid for at most {edge.max_token_hours:g} hours here")
    print(Tokens.of_run(run.path).issue(subject, role, timedelta(hours=hours)))
    return 0
