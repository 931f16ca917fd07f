"""Compile every kernel into the on-disk cache: ``python -m execution_core.warm``.

Each module that owns kernels lists itself in ``WARM`` and offers ``warm()``, which calls every
kernel once with the types that the services use.
"""

from __future__ import annotations

import importlib
import sys
import time

WARM: tuple[str, ...] = (
    "execution_core.gate",
    "execution_core.gate.fused",
    "execution_core.indicators",
    "execution_core.construction.hrp",
    "execution_core.construction.mean_variance",
    "execution_core.risk.covariance",
    "execution_core.risk.books",
    "execution_core.risk.var",
    "execution_core.risk.random",
    "execution_core.risk.montecarlo",
    "execution_core.risk.options",
    "execution_core.risk.american",
    "execution_core.construction.risk_parity",
    "execution_core.simulation.bars",
    "execution_core.simulation.l2",
    "execution_core.simulation.backtest",
    "execution_core.matching",
)


def main() -> None:
    started = time.monotonic()
    for number, name in enumerate(WARM, start=1):
        print(f"kernels {number}/{len(WARM)}: {name}", file=sys.stderr, flush=True)
        importlib.import_module(name).warm()
    print(f"kernels ready in {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
