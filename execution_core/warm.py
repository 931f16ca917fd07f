"""Compile every kernel into the on-disk cache: ``python -m execution_core.warm``.

Each module that owns kernels lists itself in ``WARM`` and offers ``warm()``, which calls every
kernel once with the types that the services use. The halves of the core are compiled side by side:
they share no kernel, and two writers of one kernel's cache could mix up its entries.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import time

HALVES: dict[str, tuple[str, ...]] = {
    "execution": (
        "execution_core.gate",
        "execution_core.matching",
        "execution_core.gate.fused",
        "execution_core.simulation.bars",
        "execution_core.simulation.l2",
        "execution_core.simulation.backtest",
    ),
    "risk": (
        "execution_core.indicators",
        "execution_core.construction.hrp",
        "execution_core.construction.mean_variance",
        "execution_core.construction.risk_parity",
        "execution_core.risk.covariance",
        "execution_core.risk.books",
        "execution_core.risk.var",
        "execution_core.risk.random",
        "execution_core.risk.montecarlo",
        "execution_core.risk.options",
        "execution_core.risk.american",
    ),
}
WARM: tuple[str, ...] = tuple(name for half in HALVES.values() for name in half)


def main(half: str | None = None) -> int:
    """Compile one half, or both, each in a process of its own; the exit code."""
    started = time.monotonic()
    if half is None:
        processes = [subprocess.Popen([sys.executable, "-m", "execution_core.warm", name]) for name in HALVES]
        codes = [process.wait() for process in processes]
        print(f"kernels ready in {time.monotonic() - started:.0f} s", file=sys.stderr)
        return max(codes, key=abs)
    for number, name in enumerate(HALVES[half], start=1):
        print(f"kernels {half} {number}/{len(HALVES[half])}: {name}", file=sys.stderr, flush=True)
        importlib.import_module(name).warm()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
